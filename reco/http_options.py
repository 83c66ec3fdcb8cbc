"""The options of `reco serve --http`, bundled into one value."""

import re
from pathlib import Path
from typing import Any, Final, NamedTuple

import click

from reco.duration import Duration
from reco.number import Number
from reco.options import address, as_one, refuse
from server.guard import Limits
from shared.reward_window import WindowRules

_SHORTEST_KEY: Final = 16
_ORIGIN: Final = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::(?P<port>[1-9][0-9]{0,4}))?"
)
_GOES_WITHOUT_SAYING: Final = {"http": "80", "https": "443"}


class HttpOptions(NamedTuple):
    """How `reco serve` is to offer its API."""

    address: str
    rules: WindowRules
    rank_budget_s: float
    drain_s: float
    limits: Limits
    keys: list[bytes]
    origins: list[str]


class _Keys(click.ParamType[list[bytes]]):
    """A file with one API key a line."""

    name = "file"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> list[bytes]:
        """The keys; lines that start with # are left out."""
        try:
            lines = [line.strip() for line in Path(value).read_bytes().splitlines()]
        except OSError as error:
            self.fail(f"can't read {value}: {error.strerror}", param, ctx)
        keys = [line for line in lines if line and not line.startswith(b"#")]
        if not keys:
            self.fail(f"{value} has no key: write one a line, or leave the option out", param, ctx)
        if min(map(len, keys)) < _SHORTEST_KEY:
            self.fail(
                f"{value} has a key shorter than {_SHORTEST_KEY} characters: make one with "
                "`openssl rand -hex 24`",
                param,
                ctx,
            )
        return keys


class _Origin(click.ParamType[str]):
    """Where a web page is from, written as browsers write it: otherwise it never matches."""

    name = "origin"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The same, if it is one, or the `*` of all."""
        origin = str(value)
        if origin == "null":
            self.fail("null is what any page in a sandbox says: name an origin, or *", param, ctx)
        found = _ORIGIN.fullmatch(origin)
        if origin != "*" and not (found and _is_said(found["scheme"], found["port"])):
            self.fail(
                f"{origin!r} is no origin: give * for all, or scheme://host[:port] as browsers do, "
                "such as https://shop.example (lower case, no path, no port that goes without "
                "saying)",
                param,
                ctx,
            )
        return origin


def _is_said(scheme: str, port: str | None) -> bool:
    """Whether a browser would write this port."""
    return port is None or (0 < int(port) < 65_536 and _GOES_WITHOUT_SAYING.get(scheme) != port)


def _checked(context: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """At once, and not only when broker and store have answered."""
    address(context, param, value)
    return value


_OPTIONS: Final = (
    click.option(
        "--http",
        envvar="RECO_HTTP",
        show_envvar=True,
        metavar="HOST:PORT",
        callback=_checked,
        help="Offer the HTTP API here as well; port 0 for a free one.",
    ),
    click.option(
        "--reward-window",
        envvar="RECO_REWARD_WINDOW",
        show_envvar=True,
        default="30s",
        show_default=True,
        type=Duration(),
        help="How long a decision over HTTP waits for its click. The same for every server.",
    ),
    click.option(
        "--most-waiting",
        envvar="RECO_MOST_WAITING",
        show_envvar=True,
        default=WindowRules().most_waiting,
        show_default=True,
        type=click.IntRange(min=4),
        help="Decisions that may wait at once, for their clicks or for Kafka, over all servers; "
        "beyond it ranking is refused. As many resolved ones are kept to answer repeats, and each "
        "takes about 2 KB of Redis, and some 6 bytes for each id of `candidates` or `exclude`.",
    ),
    click.option(
        "--rank-budget-ms",
        envvar="RECO_RANK_BUDGET_MS",
        show_envvar=True,
        default=250.0,
        show_default=True,
        type=Number(min=1),
        help="How long ranking may take, Redis included, before the answer is 503.",
    ),
    click.option(
        "--http-in-flight",
        envvar="RECO_HTTP_IN_FLIGHT",
        show_envvar=True,
        default=Limits().in_flight,
        show_default=True,
        type=click.IntRange(min=1),
        help="Requests answered at once; beyond it 503 with Retry-After.",
    ),
    click.option(
        "--drain",
        "drain_s",
        envvar="RECO_DRAIN",
        show_envvar=True,
        default="1s",
        show_default=True,
        type=Duration(),
        help="After SIGTERM, how long to go on answering while clients move to other servers.",
    ),
    click.option(
        "--api-keys",
        envvar="RECO_API_KEYS",
        show_envvar=True,
        metavar="FILE",
        type=_Keys(),
        help="Require one of these keys (one a line) as `Authorization: Bearer`. [default: open]",
    ),
    click.option(
        "--cors-origin",
        "cors_origins",
        envvar="RECO_CORS_ORIGIN",
        show_envvar=True,
        multiple=True,
        metavar="ORIGIN",
        type=_Origin(),
        help="Let web pages of this origin (https://shop.example, or * for any) call the API; may "
        "be given several times.",
    ),
)


_OF_THE_API: Final = (
    *("reward_window", "most_waiting", "rank_budget_ms", "http_in_flight"),
    *("drain_s", "api_keys", "cors_origins"),
)


def _bundled(
    http: str | None,
    reward_window: float,
    most_waiting: int,
    rank_budget_ms: float,
    http_in_flight: int,
    drain_s: float,
    api_keys: list[bytes] | None,
    cors_origins: tuple[str, ...],
) -> HttpOptions | None:
    if not http:
        refuse(_OF_THE_API, "add --http HOST:PORT, or leave it out")
        return None
    return HttpOptions(
        http,
        WindowRules(
            window_ms=round(reward_window * 1e3),
            most_waiting=most_waiting,
            most_kept=most_waiting,
        ),
        rank_budget_ms / 1e3,
        drain_s,
        Limits(in_flight=http_in_flight),
        api_keys or [],
        [*cors_origins],
    )


http: Final = as_one("http", _bundled, _OPTIONS)
"""Adds the options, and hands them over as one: `http`, None where `--http` was not given."""
