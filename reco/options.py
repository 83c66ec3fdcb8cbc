"""Options that several commands share, each with its environment variable.

Only commands read the environment; everything below them is handed what it needs.
"""

import functools
import inspect
import os
import re
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol, TypeVar
from urllib.parse import quote, urlsplit

import click
import msgspec
from click.core import ParameterSource

from infra import free_ports
from reco import logs, output_files
from reco.number import Number
from shared.host_port import host_port

_F = TypeVar("_F", bound=Callable[..., Any])


class _Decorator(Protocol):
    def __call__(self, function: _F, /) -> _F: ...


class Address(NamedTuple):
    """Where to listen."""

    host: str
    port: int


def as_one(name: str, make: Callable[..., object], given: Sequence[_Decorator]) -> _Decorator:
    """Several options, handed to the command as one value.

    Args:
        name: the command's parameter.
        make: the value, of parameters that are called like the options' own.
        given: the options, in the order of the help.
    """
    own = list(inspect.signature(make).parameters)

    def decorate(function: _F) -> _F:
        @functools.wraps(function)
        def command(*args: Any, **kwargs: Any) -> Any:
            value = make(**{option: kwargs.pop(option) for option in own})
            return function(*args, **{name: value}, **kwargs)

        decorated: Any = command
        for option in reversed(given):
            decorated = option(decorated)
        result: _F = decorated
        return result

    return decorate


def refuse(names: Sequence[str], why: str) -> None:
    """Refuse parameters of the command that would be ignored, where they were typed.

    Variables may be there for other commands.
    """
    context = click.get_current_context()
    typed = [
        param.opts[0]
        for param in context.command.params
        if param.name in names
        and context.get_parameter_source(param.name) is ParameterSource.COMMANDLINE
    ]
    if typed:
        raise click.UsageError(f"{', '.join(typed)} would be ignored: {why}")


DEFAULT_KAFKA: Final = "127.0.0.1:9092"
DEFAULT_REDIS: Final = "redis://127.0.0.1:6379/0"
_PASSWORD: Final = "reco.redis_password"
_MODEL: Final = re.compile(r"[A-Za-z0-9._-]{1,100}")


def kafka(function: _F) -> _F:
    """`--kafka ADDRESS`; further librdkafka settings come from `KAFKA_*` (`kafka_settings`)."""
    return click.option(
        "--kafka",
        envvar="RECO_KAFKA",
        show_envvar=True,
        default=DEFAULT_KAFKA,
        show_default=True,
        metavar="HOST:PORT",
        help="Kafka bootstrap address. KAFKA_* passes through to librdkafka.",
    )(function)


def redis(function: _F) -> _F:
    """`--redis URL`, into which the password goes that `--redis-password-file` names."""
    return redis_for(
        "Redis address: redis://[user:password@]host:port/db, rediss:// with TLS.", DEFAULT_REDIS
    )(function)


def redis_for(what: str, default: str | None = None) -> _Decorator:
    """The same with another help, where the store may be left out."""
    url = click.option(
        "--redis",
        envvar="RECO_REDIS",
        show_envvar=True,
        default=default,
        show_default=default is not None,
        metavar="URL",
        callback=_with_password,
        help=what,
    )
    password_file = click.option(
        "--redis-password-file",
        envvar="RECO_REDIS_PASSWORD_FILE",
        show_envvar=True,
        type=click.Path(path_type=Path),
        is_eager=True,  # before the callback of --redis, which reads it
        expose_value=False,
        callback=_read_password,
        help="File with the password of the user in --redis, where the URL has none.",
    )
    return lambda function: url(password_file(function))


def model(function: _F) -> _F:
    """`--model NAME`: the name in the store's keys."""
    return click.option(
        "--model",
        envvar="RECO_MODEL",
        show_envvar=True,
        default="linucb",
        show_default=True,
        metavar="NAME",
        callback=_check_model,
        help="Name of the model in the store: reco:{NAME:p0}:state and so on.",
    )(function)


def data(function: _F) -> _F:
    """`--data DIR`: what `reco prepare` wrote."""
    return click.option(
        "--data",
        envvar="RECO_DATA",
        show_envvar=True,
        default=Path("data"),
        show_default=True,
        type=click.Path(path_type=Path),
        help="Folder that `reco prepare --out DIR` wrote.",
    )(function)


def seed(default: int = 1237) -> _Decorator:
    """`--seed N`"""
    return click.option(
        "--seed",
        envvar="RECO_SEED",
        show_envvar=True,
        default=default,
        show_default=True,
        type=click.IntRange(0, 2**63 - 1),
        help="Seed of everything that is drawn.",
    )


def epsilon(function: _F) -> _F:
    """`--epsilon E`: how often chance takes the place of the policy's own order."""
    return click.option(
        "--epsilon",
        type=Number(0, 1),
        help="How often chance decides: for lingreedy about a whole slate, for linucb and "
        "popularity about each rank, so that every slate has a known probability. lints and "
        "random draw anyhow and ignore it.  [default: 0.1 for lingreedy, else 0]",
    )(function)


def experiment(function: _F) -> _F:
    """`--experiment POLICY:SHARE,…` and `--experiment-name NAME`."""
    named = click.option(
        "--experiment-name",
        default="experiment",
        show_default=True,
        metavar="NAME",
        help="Another name divides the users anew.",
    )
    split = click.option(
        "--experiment",
        metavar="POLICY:SHARE,POLICY:SHARE",
        help="Several policies side by side instead of --policy, each for its share of the users: "
        "linucb:50,random:50; with settings of their own: linucb:50,linucb/alpha=0.1:50. "
        "`reco experiment` compares them.",
    )
    return split(named(function))


def gamma(function: _F) -> _F:
    """`--gamma G`: part of what a model is; trainers, servers and replays of it must agree."""
    return click.option(
        "--gamma",
        envvar="RECO_GAMMA",
        show_envvar=True,
        default=1.0,
        show_default=True,
        type=Number(0, 1, min_open=True),
        help="Forgetting: an arm's sums count γ times as much with each further outcome of its "
        "partition. 1 forgets nothing; all that work on a model need the same.",
    )(function)


def dedupe_window(default: int) -> _Decorator:
    """`--dedupe-window N`: trainers and replays of a model must agree on it."""
    return click.option(
        "--dedupe-window",
        default=default,
        show_default=True,
        type=click.IntRange(0),
        help="An outcome that came in its partition's last N offsets already is a duplicate. "
        "Trainers of a model and `reco replay --check` need the same.",
    )


def patience(function: _F) -> _F:
    """`--patience-s S`: how long to wait for a broker or store that does not answer."""
    return click.option(
        "--patience-s",
        envvar="RECO_PATIENCE_S",
        show_envvar=True,
        default=30.0,
        show_default=True,
        type=Number(min=0),
        help="How long to keep trying an address that does not answer before giving up.",
    )(function)


def observed(function: _F) -> _F:
    """`--metrics HOST:PORT` and `--log-format FORMAT`, of every service."""
    metrics = click.option(
        "--metrics",
        "metrics_at",
        envvar="RECO_METRICS",
        show_envvar=True,
        metavar="HOST:PORT",
        callback=address,
        help="Serve Prometheus metrics at /metrics, and /livez and /readyz. [default: none]",
    )
    log_format = click.option(
        "--log-format",
        envvar="RECO_LOG_FORMAT",
        show_envvar=True,
        default="text",
        show_default=True,
        type=click.Choice(logs.FORMATS),
        is_eager=True,
        expose_value=False,
        callback=lambda _, __, value: logs.configure(value),
        help="Lines for people, or of JSON; auto: for people on a terminal, else JSON.",
    )
    return metrics(log_format(function))


def json_output(what: str) -> _Decorator:
    """`--json [FILE]`: alone, JSON on standard output, and what is for people on standard error."""
    return click.option(
        "--json",
        "json_file",
        is_flag=False,
        flag_value="-",
        default=None,
        metavar="[FILE]",
        callback=output_files.checked_json,
        help=f"Write {what} as JSON to FILE, or alone to standard output.",
    )


def write_json(value: object, json_file: str | None) -> None:
    """Do what `--json` asks for; nothing where it was not given.

    Raises:
        click.BadParameter: the file can't be written.
    """
    if json_file is None:
        return
    text = msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
    if json_file == "-":
        click.echo(text)
        return
    try:
        Path(json_file).write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise click.BadParameter(f"can't write {json_file}: {error.strerror}") from error


def kafka_settings() -> dict[str, str]:
    """The `KAFKA_*` variables, for `shared.kafka` to translate."""
    return {name: value for name, value in os.environ.items() if name.startswith("KAFKA_")}


def _read_password(context: click.Context, _: click.Parameter, path: Path | None) -> None:
    if path is None:
        return
    try:
        password = path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise click.BadParameter(f"can't read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise click.BadParameter(f"{path} holds no text") from error
    if not password:
        raise click.BadParameter(f"{path} is empty: write the password into it")
    context.meta[_PASSWORD] = password


def _with_password(context: click.Context, _: click.Parameter, url: str | None) -> str | None:
    password = context.meta.get(_PASSWORD)
    if password is None or url is None:
        return url
    try:
        parts = urlsplit(url)
    except ValueError:  # it will be refused where it is used
        return url
    if parts.password is not None:
        return url
    user, _at, host = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"{user}:{quote(password, safe='')}@{host}").geturl()


def _check_model(_: click.Context, __: click.Parameter, value: str) -> str:
    """It stands in keys and their patterns, in the names of groups, and in those of files."""
    if not _MODEL.fullmatch(value):
        raise click.BadParameter("give 1 to 100 letters (A to Z), digits, '.', '_' or '-'")
    return value


def address(_: click.Context, __: click.Parameter, value: str | None) -> Address | None:
    """Callback of options that say where to listen."""
    if value is None:
        return None
    try:
        return Address(*host_port(value))
    except ValueError as error:
        raise click.BadParameter(f"{value!r} is not HOST:PORT, such as 127.0.0.1:9464") from error


def free_port(port: int) -> int:
    """The port, or for 0 a free one, of 127.0.0.1.

    Raises:
        click.BadParameter: it is taken.
    """
    try:
        with socket.create_server(("127.0.0.1", port or free_ports.free_port())) as listening:
            return int(listening.getsockname()[1])
    except OSError as error:
        raise click.BadParameter(f"can't listen at 127.0.0.1:{port}: {error.strerror}") from error


def share_of(_: click.Context, __: click.Parameter, value: str | None) -> tuple[int, int] | None:
    """Callback of `--static I/N`."""
    if value is None:
        return None
    ordinal, slash, count = value.partition("/")
    if not (slash and ordinal.isdecimal() and count.isdecimal() and int(ordinal) < int(count)):
        raise click.BadParameter("give I/N with 0 ≤ I < N, as in 0/2")
    return int(ordinal), int(count)
