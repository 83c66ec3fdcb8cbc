"""The live page, opened in a browser, over a real system or a feed of a test's own."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final, NamedTuple

from playwright.sync_api import BrowserContext, Page, Request, expect
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette

from server.guard import Gate, Guard, Limits
from server.http import Deadlines, HttpServer
from server.live import live_routes
from shared.metrics import HttpMetrics
from tests.live_scenario import Feeding

PATIENCE_MS: Final = 40_000

expect.set_options(timeout=PATIENCE_MS)


class Seen(NamedTuple):
    """An open page, what it complained of, and what it asked for."""

    page: Page
    complaints: list[str]
    requests: list[str]


@contextmanager
def opened(context: BrowserContext, address: str) -> Iterator[Seen]:
    """The page; afterwards it must have complained of nothing and talked to nobody else."""
    complaints: list[str] = []
    requests: list[str] = []
    page = context.new_page()
    page.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: requests.append(_url(request)))
    page.goto(address)
    expect(page.locator("#state-text")).to_have_text("live")
    yield Seen(page, complaints, requests)
    assert complaints == []
    assert [url for url in requests if not url.startswith((f"{address}/", "data:,"))] == []
    page.close()


def _url(request: Request) -> str:
    return request.url


@contextmanager
def answering(
    feeding: Feeding, address: str = "127.0.0.1:0", keys: Sequence[bytes] = ()
) -> Iterator[str]:
    """A page over a feed of the test's own; gives where it is."""
    gate, metrics = Gate(), HttpMetrics(CollectorRegistry())
    app = Starlette(
        routes=live_routes(feeding.feed, lambda: feeding.view.ready, lambda: gate.draining)
    )
    guard = Guard(app, gate, Limits(), keys, metrics, time.monotonic)
    server = HttpServer(address, guard, gate, Deadlines(drain_s=0.0))
    server.start()
    try:
        yield server.url
    finally:
        server.stop()
