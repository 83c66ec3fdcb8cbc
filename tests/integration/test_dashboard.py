"""Every query of the dashboard and of the alert rules, asked of a real Prometheus."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from shared.exporter import Exporter
from shared.health import Health
from tests.dashboard import PROMETHEUS, Query, Traffic, alerts, dashboard_queries
from tests.integration.containers import require_docker
from tests.integration.prometheus import Prometheus, check, running

QUERIES = dashboard_queries()
ALERTS = [rule["alert"] for rule in alerts()]
FIRING = {"DeadLetters", "DecisionsPutAside", "WritersFight"}
"""What the traffic of these tests sets off at once …"""
PENDING = {
    *("NotReady", "PartitionsNotServed", "ModelStale", "LagGrows", "NobodyTrains"),
    *("AnswersFail", "Overloaded", "OutboxStuck"),
}
"""… and what it would set off if it lasted."""


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Prometheus that has scraped each service a few times."""
    require_docker()
    traffic = Traffic()
    jobs = {"server": traffic.server, "trainer": traffic.trainer, "producer": traffic.producer}
    with ExitStack() as stack:
        targets = {}
        for job, metrics in jobs.items():
            exporter = Exporter("127.0.0.1", 0, metrics.registry, Health(list, list))
            stack.callback(exporter.close)
            targets[job] = [exporter.url.removeprefix("http://")]
        one = stack.enter_context(running(tmp_path_factory.mktemp("prometheus"), targets))
        scraped = "min(count_over_time(up[1h])) > 4"
        one.until(lambda: one.query(scraped), "scraped five times")
        yield one


@pytest.mark.parametrize("query", QUERIES, ids=[f"{q.where}: {q.expression}" for q in QUERIES])
def test_every_query_of_the_dashboard_returns_data(prometheus: Prometheus, query: Query) -> None:
    # A scrape that took too long leaves a gap, on a slow machine.
    found = prometheus.until(lambda: prometheus.query(query.expression), query.where)
    assert all(sample["value"][1] != "NaN" for sample in found)


def test_what_is_captured_of_the_uplift_is_what_was_exported(prometheus: Prometheus) -> None:
    [query] = [query for query in QUERIES if query.where == "Uplift captured"]
    [sample] = prometheus.until(lambda: prometheus.query(query.expression), query.where)
    assert float(sample["value"][1]) == pytest.approx((64 - 50) / (67 - 50))


@pytest.mark.parametrize("alert", ALERTS)
def test_every_alert_is_evaluated_without_an_error(prometheus: Prometheus, alert: str) -> None:
    prometheus.until(lambda: prometheus.rules()[alert]["health"] != "unknown", f"evaluated {alert}")
    rule = prometheus.rules()[alert]
    assert rule["health"] == "ok", rule.get("lastError")


def test_alerts_notice_what_is_wrong_and_nothing_else(prometheus: Prometheus) -> None:
    def noticed() -> set[str]:
        return {name for name, rule in prometheus.rules().items() if rule["state"] != "inactive"}

    prometheus.until(lambda: noticed() >= FIRING | PENDING, "noticed all that is wrong")
    # What is noticed beside it may be the next rule to be evaluated.
    since = max(prometheus.evaluated())
    prometheus.until(
        # A scrape that took too long may raise one for a moment.
        lambda: min(prometheus.evaluated()) > since and noticed() == FIRING | PENDING,
        "noticed what is wrong and nothing else",
    )
    for alert in FIRING:
        assert prometheus.rules()[alert]["state"] == "firing"


def test_the_configuration_is_accepted_by_promtool() -> None:
    require_docker()
    assert "SUCCESS" in check(PROMETHEUS)
