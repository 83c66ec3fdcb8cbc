"""`reco produce --via`: shoppers at the API instead of visits on the topic."""

import asyncio
import functools
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar
from urllib.parse import urlsplit

import click
import httpx
import msgspec

from producer.habits import Habits
from producer.http_shoppers import Counts, GivenUp, HttpShoppers, React, Shopped
from producer.service import Stop
from producer.simulate import Shoppers
from reco.http_options import Duration
from reco.shoppers import reaction
from reco.wiring import open_trace, say, utc_now
from shared.catalogue import DataSet
from shared.events import Visit

_F = TypeVar("_F", bound=Callable[..., Any])

_TIMEOUT_S: Final = 10.0
_REPORT_EVERY_S: Final = 1.0


class Via(NamedTuple):
    """How the API is reached, and who visits it."""

    urls: list[str]
    habits: Habits
    key: str | None


def options(function: _F) -> _F:
    """Add `--via` and its like, and hand them over as one: `via`, None where it was not given."""

    @functools.wraps(function)
    def bundled(
        *args: Any,
        via: list[str],
        think: float,
        late_share: float,
        late_after: float,
        api_key_file: Path | None,
        **kwargs: Any,
    ) -> Any:
        habits = Habits(median_s=think, late_share=late_share, late_s=late_after)
        key = api_key_file.read_text().split()[0] if api_key_file else None
        return function(*args, via=Via(via, habits, key) if via else None, **kwargs)

    decorated: Any = bundled
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    result: _F = decorated
    return result


def _urls(_: click.Context, __: click.Parameter, value: str | None) -> list[str]:
    urls = [url.strip() for url in (value or "").split(",") if url.strip()]
    for url in urls:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise click.BadParameter(f"{url!r} is no address such as http://127.0.0.1:8000")
    return urls


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
        type=click.FloatRange(0, 1),
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
        help="With --via: file whose first word is the API key.",
    ),
)


def run(
    via: Via,
    data: DataSet,
    shoppers: Shoppers,
    indices: Iterable[int],
    seed: int,
    rate: float,
    patience_s: float,
    stop: Stop,
    as_json: bool,
) -> None:
    """Let them visit, and tell what happens.

    Raises:
        click.ClickException: nobody answers.
    """
    told_s = time.monotonic()

    def done(shopped: Shopped, counts: Counts) -> None:
        nonlocal told_s
        if as_json:
            click.echo(msgspec.json.encode(shopped_line(shopped)))
        elif time.monotonic() - told_s >= _REPORT_EVERY_S:
            told_s = time.monotonic()
            say(_sentence(counts))

    say(f"shoppers visit {', '.join(via.urls)}")
    counts = shop(
        via,
        data,
        shoppers,
        indices,
        seed=seed,
        rate=rate,
        patience_s=patience_s,
        stop=stop,
        done=done,
    )
    if as_json:
        report = {**asdict(counts), "what": "visits", "done": True}
        click.echo(msgspec.json.encode(report))
    else:
        say(f"done: {_sentence(counts)}")


def _sentence(counts: Counts) -> str:
    rate = counts.clicks / counts.confirmed if counts.confirmed else 0.0
    return (
        f"{counts.confirmed:,} visits over, click rate {rate:.3f}, late clicks {counts.late:,}, "
        f"asked again {counts.retries:,}"
    )


def shop(
    via: Via,
    data: DataSet,
    shoppers: Shoppers,
    indices: Iterable[int],
    *,
    seed: int,
    rate: float,
    patience_s: float,
    stop: Stop,
    done: Callable[[Shopped, Counts], None],
) -> Counts:
    """Let them visit; returns what they met.

    Raises:
        click.ClickException: nobody answers.
    """

    async def run() -> Counts:
        headers = {"authorization": f"Bearer {via.key}"} if via.key else {}
        async with httpx.AsyncClient(timeout=_TIMEOUT_S, headers=headers) as client:
            service = HttpShoppers(
                client,
                via.urls,
                shoppers,
                _react(data, seed),
                via.habits,
                seed,
                rate,
                patience_s,
                clock=time.monotonic,
                utc_now=utc_now,
                done=lambda shopped: done(shopped, service.counts),
                trace=open_trace("producer", "visit", starts=True),
            )
            await service.run(indices, stop)
            return service.counts

    try:
        return asyncio.run(run())
    except ExceptionGroup as group:
        given_up = group.subgroup(GivenUp)
        if given_up is None:
            raise
        raise click.ClickException(str(given_up.exceptions[0])) from group


def shopped_line(shopped: Shopped) -> dict[str, str | bool]:
    """As `reco serve --json` says a visit."""
    visit, clicked = shopped.visit, shopped.clicked
    mark = "✅" if clicked is not None else "❌"
    line = (
        f"User {visit.user_id:04d} ({visit.context.age} yo) @ "
        f"{visit.context.occurred_at:%a %H:%M} -> Recs: {shopped.slate} -> "
        f"Clicked: {clicked} ({mark})"
    )
    return {"visit_id": visit.visit_id, "clicked": clicked is not None, "line": line}


def _react(data: DataSet, seed: int) -> React:
    react = reaction(data, seed, 50)

    def one(visit: Visit, slate: Sequence[int]) -> int | None:
        [rank] = react([visit], [slate])
        return rank

    return one
