"""The queries of the Grafana dashboard and of the alert rules, and services that answer them."""

import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import yaml
from prometheus_client.parser import text_string_to_metric_families

from shared.metrics import (
    HttpMetrics,
    Labels,
    ProducerMetrics,
    ServerMetrics,
    TrainerMetrics,
    exposition,
)

INFRA = Path(__file__).resolve().parents[1] / "infra"
DASHBOARD = INFRA / "grafana" / "dashboards" / "livereco.json"
PROMETHEUS = INFRA / "prometheus"


class Query(NamedTuple):
    """One PromQL expression."""

    where: str
    expression: str


def panels() -> list[dict[str, Any]]:
    """The dashboard's panels, without the rows between them."""
    dashboard = msgspec.json.decode(DASHBOARD.read_bytes())
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def dashboard_queries() -> list[Query]:
    """As Grafana would send them, with an interval in the place of its variable."""
    return [
        Query(panel["title"], target["expr"].replace("$__rate_interval", "20s"))
        for panel in panels()
        for target in panel["targets"]
    ]


def alerts() -> list[dict[str, Any]]:
    """The alert rules."""
    rules = yaml.safe_load((PROMETHEUS / "rules.yml").read_text())
    return [rule for group in rules["groups"] for rule in group["rules"]]


def alert_queries() -> list[Query]:
    """Their expressions."""
    return [Query(rule["alert"], rule["expr"]) for rule in alerts()]


def metrics_in(expression: str) -> set[str]:
    """Names of ours, and of the process, in an expression."""
    return set(re.findall(r"\b(?:reco|process)_[a-z_]+\b", expression))


class Traffic:
    """Metrics of the three services as under a steady load: each scrape finds them grown."""

    def __init__(self) -> None:
        self.server, self.trainer = ServerMetrics(), TrainerMetrics()
        self.producer = ProducerMetrics()
        self._http = HttpMetrics(self.server.registry)
        self._scrapes = 0
        self._serve()
        self._train()
        self.producer.sent.read(self._count(100))
        self.producer.confirmed.read(self._count(100))
        self.producer.ready.read(lambda: 1.0)

    def exported(self) -> dict[str, set[str]]:
        """Sample name → names of its labels, as they stand in the exposition."""
        found: dict[str, set[str]] = {}
        for metrics in (self.server, self.trainer, self.producer):
            text = exposition(metrics.registry).decode()
            for family in text_string_to_metric_families(text):
                for sample in family.samples:
                    found.setdefault(sample.name, set()).update(sample.labels)
        return found

    def _count(self, per_scrape: float) -> Callable[[], float]:
        return lambda: per_scrape * self._scrapes

    def _each(self, *per_scrape: tuple[str, float]) -> Callable[[], Mapping[Labels, float]]:
        return lambda: {(label,): rate * self._scrapes for label, rate in per_scrape}

    def _scrape(self) -> float:
        self._scrapes += 1
        server, http, trainer = self.server, self._http, self.trainer
        for seconds in (0.004, 0.006, 0.05):
            server.freshness.observe(seconds)
            server.rank_latency.observe(seconds / 100)
            http.latency.labels("/v1/rank", "POST").observe(seconds)
        for status in ("200", "200", "503"):
            http.requests.labels("/v1/rank", "POST", status).inc(40)
        trainer.write_rows.observe(30)
        trainer.write_bytes.observe(34_000)
        return 100.0 * self._scrapes

    def _serve(self) -> None:
        server = self.server
        server.visits.read(self._scrape)
        server.decisions.read(self._each(("stream", 100), ("http", 40)))
        server.skipped.read(self._count(2))
        server.put_aside.read(self._count(1))
        server.outcomes.read(self._count(300))
        server.clicks.read(self._count(62))
        server.unknown_categories.read(self._count(1))
        server.clipped.read(self._count(1))
        server.expected_clicks.read(self._each(("shown", 64), ("random", 50), ("best", 67)))
        server.dead_letters.read(self._each(("visits", 2)))
        self._http.rejected.read(self._each(("overload", 40)))
        server.resolutions.read(self._each(("click", 30), ("expiry", 10)))
        server.clicks_refused.read(self._each(("late", 1)))
        server.lag.read(lambda: {("visits", "0"): 7_000.0, ("visits", "1"): 4_000.0})
        server.view_offset.read(lambda: {("0",): 300.0})
        server.policy_info.read(lambda: {("linucb", "linucb"): 1.0})
        server.delivery_info.read(lambda: {("exactly-once",): 1.0})
        for gauge, at in (
            (server.ready, 1.0),
            (server.view_age, 40.0),
            (server.solution_age, 40.0),
            (server.view_stale, 1.0),
            (server.view_bytes, 220_800.0),
            (server.gaps, 3.0),
            (server.decisions_waiting, 1_200.0),
            (server.outbox, 1_200.0),
        ):
            gauge.read(partial(float, at))

    def _train(self) -> None:
        trainer = self.trainer
        trainer.applied.read(self._count(290))
        trainer.duplicates.read(self._count(3))
        trainer.writes.read(self._count(20))
        trainer.conflicts.read(self._count(2))
        trainer.reloads.read(self._count(2))
        trainer.dead_letters.read(self._each(("outcomes", 4)))
        trainer.lag.read(lambda: {("outcomes", "0"): 12.0})
        trainer.offset.read(lambda: {("0",): 300.0})
        trainer.waiting.read(lambda: 1.0)
        trainer.ready.read(lambda: 0.0)
