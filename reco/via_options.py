"""`--via` of `reco produce` and its like, bundled into one value."""

import re
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import urlsplit

import click
from click.core import ParameterSource

from producer.habits import Habits
from reco.duration import Duration
from reco.number import Number
from reco.options import as_one, refuse
from shared.host_port import host_port


class Via(NamedTuple):
    """How the API is reached, and who visits it."""

    urls: list[str]
    habits: Habits
    key: str | None


def _urls(_: click.Context, __: click.Parameter, value: str | None) -> list[str]:
    if value is None:
        return []
    if "@" in value:  # of the whole: a comma may be part of a password, which no message shows
        raise click.BadParameter(
            "leave user and password out; an API key is given with --api-key-file FILE"
        )
    urls = [url.strip() for url in value.split(",")]
    for url in urls:
        if not _is_address(url):
            shown = re.sub(r"([?#]).+", r"\1…", url, flags=re.DOTALL)  # there may be a key as well
            raise click.BadParameter(
                f"{shown!r} is no address such as http://127.0.0.1:8000 or "
                "https://shop.example/api; several are separated by commas"
            )
    return urls


def _is_address(url: str) -> bool:
    import httpx  # the HTTP client, for those who visit by HTTP

    try:
        parts = urlsplit(url)
        host_port(parts.netloc if parts.port is not None else f"{parts.netloc}:80")
        host = httpx.URL(url).host  # the names that it can't ask for are others still
    except (ValueError, httpx.InvalidURL):
        return False
    ends = not parts.netloc.endswith(":") and not set("?#") & set(url)
    return parts.scheme in ("http", "https") and bool(host) and parts.port != 0 and ends


def _first_word(_: click.Context, __: click.Parameter, path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        words = path.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise click.BadParameter(f"can't read {path}: {error}") from error
    if not words:
        raise click.BadParameter(f"{path} is empty: write the key into it")
    if not (words[0].isascii() and words[0].isprintable()):  # said later, it would be shown
        raise click.BadParameter(f"{path} has a key that no header can carry: use ASCII only")
    return words[0]


_OPTIONS: Final = (
    click.option(
        "--via",
        envvar="RECO_VIA",
        show_envvar=True,
        callback=_urls,
        metavar="URL[,URL…]",
        help="Let the shoppers visit the HTTP API at these addresses, in turn, instead of Kafka.",
    ),
    click.option(
        "--think",
        default="1s",
        show_default=True,
        type=Duration(),
        help="With --via: median of the time from slate to click; it is log-normal, σ = 0.7.",
    ),
    click.option(
        "--late-share",
        default=0.0,
        show_default=True,
        type=Number(0, 1),
        help="With --via: share of the clicks that come only after --late-after.",
    ),
    click.option(
        "--late-after",
        default="35s",
        show_default=True,
        type=Duration(),
        help="With --via: when late clicks come; beyond the server's --reward-window.",
    ),
    click.option(
        "--api-key-file",
        envvar="RECO_API_KEY_FILE",
        show_envvar=True,
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        callback=_first_word,
        help="With --via: file whose first word is the API key.",
    ),
)


def _bundled(
    via: list[str],
    think: float,
    late_share: float,
    late_after: float,
    api_key_file: str | None,
) -> Via | None:
    if not via:
        own = ("think", "late_share", "late_after", "api_key_file")
        refuse(own, "add --via URL, or leave it out")
    if click.get_current_context().get_parameter_source("late_share") is ParameterSource.DEFAULT:
        refuse(["late_after"], "add --late-share SHARE, or leave it out")
    habits = Habits(median_s=think, late_share=late_share, late_s=late_after)
    return Via(via, habits, api_key_file) if via else None


options: Final = as_one("via", _bundled, _OPTIONS)
"""Adds `--via` and its like, and hands them over as one: `via`, None where it was not given."""
