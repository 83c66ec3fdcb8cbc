import pytest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import CollectorRegistry

from shared.metrics import (
    HttpMetrics,
    ProducerMetrics,
    ServerMetrics,
    ServiceMetrics,
    TrainerMetrics,
    exposition,
)

SERVICES = [ServerMetrics, TrainerMetrics, ProducerMetrics]


def values(registry: CollectorRegistry, sample: str) -> dict[tuple[str, ...], float]:
    """By the labels' values, in the order of the labels' names."""
    return {
        tuple(value for _, value in sorted(each.labels.items())): each.value
        for family in text_string_to_metric_families(exposition(registry).decode())
        for each in family.samples
        if each.name == sample
    }


def test_a_count_is_read_when_it_is_scraped() -> None:
    metrics, counts = ServerMetrics(), {"visits": 0}
    metrics.visits.read(lambda: counts["visits"])
    assert values(metrics.registry, "reco_visits_total") == {(): 0}
    counts["visits"] = 7
    assert values(metrics.registry, "reco_visits_total") == {(): 7}


def test_readings_of_several_parts_are_added_up_label_by_label() -> None:
    metrics = ServerMetrics()
    metrics.decisions.read(lambda: {("stream",): 3})
    metrics.decisions.read(lambda: {("http",): 2, ("stream",): 1})
    assert values(metrics.registry, "reco_decisions_total") == {("stream",): 4, ("http",): 2}


def test_what_nobody_reads_is_not_reported_as_zero() -> None:
    assert values(ServerMetrics().registry, "reco_clicks_total") == {}


@pytest.mark.parametrize("service", SERVICES)
def test_every_metric_is_named_reco_and_explained(service: type[ServerMetrics]) -> None:
    families = list(service().registry.collect())
    own = [each for each in families if not each.name.startswith("process_")]
    assert len(own) >= 6
    for family in own:
        assert family.name.startswith("reco_")
        assert family.documentation.endswith(".")


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_says_what_runs(service: type[ServerMetrics]) -> None:
    [(name, version)] = values(service().registry, "reco_build_info")
    assert (service.__name__, version) == (f"{name.title()}Metrics", "0.1.0")


def test_server_and_http_share_a_registry_but_a_name_can_not_be_taken_twice() -> None:
    server = ServerMetrics()
    http = HttpMetrics(server.registry)
    http.requests.labels("/v1/rank", "POST", "200").inc()
    assert values(server.registry, "reco_http_requests_total") == {("POST", "/v1/rank", "200"): 1}
    with pytest.raises(ValueError, match="Duplicated timeseries"):
        ServiceMetrics("server", server.registry)
