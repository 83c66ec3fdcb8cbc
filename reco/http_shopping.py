"""`reco produce --via`: shoppers at the API instead of visits on the topic."""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from typing import Final

import click
import httpx
import msgspec

from producer.http_shoppers import Counts, GivenUp, HttpShoppers, React, Shopped
from producer.service import Stop
from producer.simulate import Shoppers
from reco.logs import say
from reco.observed import observed
from reco.observed_producer import ObservedProducer
from reco.options import Address
from reco.process import process_name, utc_now
from reco.shoppers import reaction
from reco.traces import open_trace
from reco.uplift import ExpectedClicks
from reco.via_options import Via
from shared.catalogue import DataSet
from shared.events import Visit
from shared.metrics import ProducerMetrics
from shared.presence import Board
from shared.settings import SLATE_LENGTH

_TIMEOUT_S: Final = 10.0
_REPORT_EVERY_S: Final = 1.0


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
    metrics_at: Address | None = None,
    board: Board | None = None,
) -> None:
    """Let them visit, and tell what happens.

    Raises:
        click.ClickException: nobody answers.
        click.UsageError: `metrics_at` can't be listened on.
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
    counts, expected = Counts(), ExpectedClicks(SLATE_LENGTH)
    seen = ObservedProducer(ProducerMetrics(), counts, expected)
    with observed(seen, process_name(), metrics_at, board):
        shop(
            via,
            data,
            shoppers,
            indices,
            seed=seed,
            rate=rate,
            patience_s=patience_s,
            stop=stop,
            done=done,
            counts=counts,
            expected=expected,
        )
    if as_json:
        report = {**asdict(counts), "what": "visits", "done": True}
        click.echo(msgspec.json.encode(report))
    else:
        say(f"done: {_sentence(counts)}")


def _sentence(counts: Counts) -> str:
    rate = counts.clicks / counts.confirmed if counts.confirmed else 0.0
    forgotten = f", clicks forgotten {counts.forgotten:,}" if counts.forgotten else ""
    return (
        f"{counts.confirmed:,} visits over, click rate {rate:.3f}, late clicks {counts.late:,}"
        f"{forgotten}, asked again {counts.retries:,}"
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
    counts: Counts,
    expected: ExpectedClicks,
) -> None:
    """Let them visit; `counts` is told what they meet, `expected` what their slates are worth.

    Raises:
        click.ClickException: nobody answers.
    """

    async def run() -> None:
        headers = {"authorization": f"Bearer {via.key}"} if via.key else {}
        async with httpx.AsyncClient(timeout=_TIMEOUT_S, headers=headers) as client:
            service = HttpShoppers(
                client,
                via.urls,
                shoppers,
                _react(data, seed, expected),
                via.habits,
                seed,
                rate,
                patience_s,
                clock=time.monotonic,
                utc_now=utc_now,
                done=lambda shopped: done(shopped, counts),
                trace=open_trace("producer", "visit", starts=True),
                counts=counts,
            )
            await service.run(indices, stop)

    try:
        asyncio.run(run())
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


def _react(data: DataSet, seed: int, expected: ExpectedClicks) -> React:
    react = reaction(data, seed, 50, expected)
    known = {product.product_id for product in data.products}
    told: set[int] = set()

    def one(visit: Visit, slate: Sequence[int]) -> int | None:
        # Whether a product is liked follows from more than the API says of it.
        if new := set(slate) - known - told:
            told.update(new)
            names = ", ".join(map(str, sorted(new)))
            say(f"product {names}: added after `reco prepare`, no shopper here clicks on it")
        ranks = [rank for rank, product in enumerate(slate, 1) if product in known]
        if not ranks:
            return None
        [clicked] = react([visit], [[slate[rank - 1] for rank in ranks]])
        return ranks[clicked - 1] if clicked else None

    return one
