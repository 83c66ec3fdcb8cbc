import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from infra.free_ports import free_port
from producer.habits import Habits
from producer.http_shoppers import Counts, Shopped
from producer.simulate import Shoppers
from reco.http_shopping import run
from reco.http_shopping import shop as go_shopping
from reco.options import Address
from reco.uplift import ExpectedClicks
from reco.via_options import Via
from shared.catalogue import DataSet
from shared.testing import FakeBoard, FakeClock

VISITS = 30


class Api(ThreadingHTTPServer):
    """Shows everyone the same slate; looks at the producer's metrics, if any, at every click."""

    def __init__(self, slate: list[int], metrics_at: Address | None) -> None:
        super().__init__(("127.0.0.1", 0), Asked)
        self.slate = slate
        self.metrics_url = (
            f"http://{metrics_at.host}:{metrics_at.port}/metrics" if metrics_at else ""
        )
        self.scraped = ""


class Asked(BaseHTTPRequestHandler):
    server: Api

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        if self.path.endswith("/click") and self.server.metrics_url:
            self.server.scraped = httpx.get(self.server.metrics_url).text
        answer = msgspec.json.encode({"slate": [{"product_id": id_} for id_ in self.server.slate]})
        self.send_response(200)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""


@contextmanager
def api(slate: list[int], metrics_at: Address | None = None) -> Iterator[Api]:
    with Api(slate, metrics_at) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_a_producer_over_http_shows_its_visits_and_what_their_slates_are_worth(
    data: DataSet, capsys: pytest.CaptureFixture[str]
) -> None:
    metrics_at, board = Address("127.0.0.1", free_port()), FakeBoard(FakeClock())
    with api(list(data.arms[:5]), metrics_at) as shop:
        via = Via([f"http://127.0.0.1:{shop.server_port}"], Habits(median_s=0.001), None)
        shoppers = Shoppers(data.users, 5, "run")
        stop = threading.Event()
        run(via, data, shoppers, range(VISITS), 5, 0.0, 9.0, stop, False, metrics_at, board)
    assert f"done: {VISITS} visits over" in capsys.readouterr().err
    scraped = {
        (sample.name, sample.labels.get("slates")): sample.value
        for family in text_string_to_metric_families(shop.scraped)
        for sample in family.samples
    }
    assert scraped["reco_visits_sent_total", None] == VISITS
    shown, random, best = (
        scraped["reco_expected_clicks_total", slates] for slates in ("shown", "random", "best")
    )
    assert 0 < random < best < VISITS
    assert 0 < shown < best


def test_a_product_added_later_is_passed_over_and_said_once(
    data: DataSet, capsys: pytest.CaptureFixture[str]
) -> None:
    new, coffees = 9_001, [189, 190, 191, 192]
    with api([new, *coffees]) as shop:
        via = Via([f"http://127.0.0.1:{shop.server_port}"], Habits(median_s=0.001), None)
        shoppers = Shoppers(data.users, 5, "run")
        counts, slates = Counts(), list[list[int]]()

        def done(shopped: Shopped, _: Counts) -> None:
            slates.append(shopped.slate)
            assert shopped.clicked in (None, *coffees)

        go_shopping(
            via,
            data,
            shoppers,
            range(VISITS),
            seed=5,
            rate=0.0,
            patience_s=9.0,
            stop=threading.Event(),
            done=done,
            counts=counts,
            expected=ExpectedClicks(5),
        )
    assert (counts.confirmed, len(slates)) == (VISITS, VISITS)
    assert counts.clicks > 0
    assert capsys.readouterr().err.count("product 9001: added after") == 1
