"""The whole API on fakes, asked in this process."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, TypeVar

import httpx
import numpy as np
from prometheus_client import CollectorRegistry

from reco.http_lines import HttpLines
from server.answers import Answers
from server.api import Parts, Settings, create_app
from server.api_types import RankRequest
from server.experiment import Traffic
from server.freshness import FreshnessProbe
from server.guard import Gate
from server.http_traces import HttpTraces
from server.openapi import EXAMPLES
from server.problems import KINDS
from server.rank_service import RankService
from server.ranking import Ranker
from server.resolver import Resolver
from server.scorer import Model, Policy
from server.view import View
from shared.catalogue import DataSet
from shared.events import (
    DECISIONS,
    OUTCOMES,
    Decision,
    Outcome,
    decode_decision,
    decode_outcome,
)
from shared.features import CONTEXT_FEATURES
from shared.linucb import Solution, untrained
from shared.live_catalogue import LiveCatalogue
from shared.metrics import HttpMetrics
from shared.reward_window import WindowRules
from shared.testing import FakeBroker, FakeClock, FakeWindow

_T = TypeVar("_T")

RULES = WindowRules(window_ms=30_000, most_waiting=1_000)
ARMS_ID = "5c39e1b4d2f06a87"
CONTEXT: dict[str, Any] = EXAMPLES[RankRequest]["context"]


class StillView:
    """A model that nobody moves."""

    def __init__(self, data: DataSet) -> None:
        K = len(data.arms)
        self.ready = True
        self.stale = False
        self.others: dict[str, View] = {}
        self.model = Model(
            np.array(data.arms),
            np.zeros(K, np.int64),
            np.zeros(K, np.int64),
            untrained(K, data.config.d, 1.0),
            np.arange(K),
        )
        # Arms that score apart: later in the catalogue is better.
        self.model.solution.theta[:, 0] = np.linspace(0.0, 1.0, K)
        self.model.n[:] = 1
        self.model = self.model._replace(untrained=np.zeros(0, np.int64))

    @contextmanager
    def locked(self) -> Iterator[View]:
        """See `Viewing`."""
        yield View(self.model, [3, 5], self.stale, others=self.others, arms_id=ARMS_ID)


def grown(model: Model, arms: list[int]) -> Model:
    """The model for other arms; those that are new score best."""
    at = {arm: row for row, arm in enumerate(model.arms.tolist())}
    rows = np.array([at.get(arm, 0) for arm in arms])
    new = np.array([arm not in at for arm in arms])
    theta = model.solution.theta[rows]
    theta[new] = 2.0
    solution = Solution(theta, model.solution.covariance[rows])
    untrained = np.zeros(0, np.int64)
    return Model(np.array(arms), model.n[rows], model.clicks[rows], solution, untrained)


class Bench:
    """One replica; several may share window and broker."""

    def __init__(
        self,
        data: DataSet,
        settings: Settings | None = None,
        *,
        window: FakeWindow | None = None,
        broker: FakeBroker | None = None,
        step: Callable[[str], None] = lambda name: None,
        budget_s: float = 5.0,
        traces: HttpTraces | None = None,
        traffic: Traffic | None = None,
        catalogue: LiveCatalogue | None = None,
    ) -> None:
        self._runner = asyncio.Runner()
        self.window = window or FakeWindow(RULES)
        self.broker = broker or FakeBroker({DECISIONS: 2, OUTCOMES: 3})
        self.view = StillView(data)
        self.clock = FakeClock()
        self.gate = Gate()
        self.not_ready: list[str] = []
        self.not_alive: list[str] = []
        self.registry = CollectorRegistry()
        self.ranker = Ranker(
            self.view,
            traffic or Traffic.to(Policy(alpha=0.0)),
            data.encoder,
            None,
            utc_now=lambda: datetime(2026, 1, 5, 12, tzinfo=UTC),
            clock=self.clock,
            catalogue=catalogue,
        )
        self.lines = HttpLines()
        self.resolver = Resolver(
            self.window,
            self.broker.producer(),
            FreshnessProbe(3, self.clock),
            self.clock,
            step,
            self.lines.resolved,
        )
        traces = traces or HttpTraces()
        answers = Answers(catalogue or LiveCatalogue(data.products), CONTEXT_FEATURES)
        self.ranks = RankService(
            self.ranker,
            self.window,
            answers.ranked,
            budget_s,
            self.clock,
            traces,
            self.lines.decided,
        )
        parts = Parts(
            self.ranks,
            self.resolver,
            self.window,
            self.view,
            answers,
            lambda: self.view.ready,
            lambda: self.not_ready,
            lambda: self.not_alive,
            self.gate,
            HttpMetrics(self.registry),
            self.clock,
            traces,
        )
        self.app = create_app(parts, settings or Settings())

    def run(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        """Wait for it."""
        return self._runner.run(coroutine)

    def ask(self, method: str, path: str, **how: Any) -> httpx.Response:
        """One request."""
        [answer] = self.ask_all([(method, path, how)])
        return answer

    def ask_all(self, requests: Sequence[tuple[str, str, dict[str, Any]]]) -> list[httpx.Response]:
        """Several at once."""

        async def ask() -> list[httpx.Response]:
            transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
                asked = [client.request(method, path, **how) for method, path, how in requests]
                answers = await asyncio.gather(*asked)
            await self.resolver.settle()
            return answers

        return self.run(ask())

    def rank(self, **request: Any) -> httpx.Response:
        """POST /v1/rank"""
        return self.ask("POST", "/v1/rank", json={"context": CONTEXT, **request})

    def click(self, decision_id: str, product_id: int) -> httpx.Response:
        """POST /v1/decisions/{id}/click"""
        path = f"/v1/decisions/{decision_id}/click"
        return self.ask("POST", path, json={"product_id": product_id})

    def sweep(self) -> int:
        """End windows and publish."""

        async def sweep() -> int:
            swept = await self.resolver.sweep()
            await self.resolver.settle()
            return swept

        return self.run(sweep())

    def outcomes(self) -> list[Outcome]:
        """All of the topic, partition by partition."""
        return [decode_outcome(value) for value in self._values(OUTCOMES)]

    def decisions(self) -> list[Decision]:
        """The same of decisions."""
        return [decode_decision(value) for value in self._values(DECISIONS)]

    def rewards(self) -> dict[str, float]:
        """outcome_id → reward."""
        return {outcome.outcome_id: outcome.reward for outcome in self.outcomes()}

    def _values(self, topic: str) -> list[bytes]:
        partitions = range(self.broker.partitions[topic])
        return [r.value or b"" for p in partitions for r in self.broker.records(topic, p)]

    def close(self) -> None:
        """End the loop."""
        self.run(self.resolver.close())
        self._runner.close()


MakeBench = Callable[..., Bench]


def problem(answer: httpx.Response) -> tuple[int, str]:
    """Status and kind of a problem, checked for its form."""
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body.keys() == {"type", "title", "status", "detail"}
    assert body["status"] == answer.status_code
    name = body["type"].removeprefix("/docs#")
    assert name in {kind.name for kind in KINDS}
    return answer.status_code, name
