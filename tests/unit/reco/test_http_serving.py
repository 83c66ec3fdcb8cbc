"""The API as it is wired: it ranks once all models of an experiment are whole."""

import asyncio
import time
from collections.abc import Iterator
from typing import Any
from unittest.mock import MagicMock

import httpx
import pytest

from reco.http_options import HttpOptions
from reco.http_serving import HttpService, open_http
from server.experiment import parse
from server.freshness import FreshnessProbe
from server.guard import Limits
from server.model_view import ModelView
from server.readiness import not_ready
from server.scorer import Policy
from server.several_views import SeveralViews
from shared.catalogue import DataSet
from shared.metrics import ServerMetrics
from shared.reward_window import WindowRules
from shared.testing import FakeStore
from tests.unit.server.api_bench import CONTEXT


class Two:
    """An API over two views of the same rows; each is followed by hand."""

    def __init__(self, data: DataSet) -> None:
        self.views = [
            ModelView(FakeStore(), data.arms, data.config, 3, 1.0, time.monotonic) for _ in range(2)
        ]
        both = SeveralViews(dict(zip(("disjoint", "shared-linucb"), self.views, strict=True)))
        self.service: HttpService = open_http(
            HttpOptions("127.0.0.1:0", WindowRules(), 0.25, 0.0, Limits(), [], []),
            "redis://127.0.0.1:1",
            "m",
            MagicMock(),
            data,
            both,
            self.views[0],
            parse("linucb:50,shared-linucb:50", Policy, "e"),
            None,
            FreshnessProbe(3, time.monotonic),
            ServerMetrics(),
            lambda: not_ready(both),
            list,
        )

    def asked(self, method: str, path: str, **how: Any) -> httpx.Response:
        """One request."""

        async def ask() -> httpx.Response:
            app = self.service.server._server.config.app
            transport = httpx.ASGITransport(app)  # type: ignore[arg-type]
            async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
                return await client.request(method, path, **how)

        return asyncio.run(ask())


@pytest.fixture
def two(data: DataSet) -> Iterator[Two]:
    two = Two(data)
    yield two
    two.service.server.stop()


def test_nobody_is_ranked_for_before_every_policy_has_a_whole_model(two: Two) -> None:
    answers = []
    for view in two.views:
        answers.append(two.asked("POST", "/v1/rank", json={"context": CONTEXT}))
        assert two.asked("GET", "/readyz").status_code == 503
        view.refresh()
    assert [each.json()["type"] for each in answers] == ["/docs#not-ready"] * 2
    assert two.asked("GET", "/readyz").status_code == 200
    # It goes as far as the store, which is not there.
    answer = two.asked("POST", "/v1/rank", json={"context": CONTEXT})
    assert answer.json()["type"] == "/docs#window-unavailable"
