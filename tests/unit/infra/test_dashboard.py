import re

import pytest

from tests.dashboard import (
    Query,
    Traffic,
    alert_queries,
    alerts,
    dashboard_queries,
    metrics_in,
    panels,
)

QUERIES = [*dashboard_queries(), *alert_queries()]
SCRAPED = {"job", "instance", "le"}
"""Labels that Prometheus adds."""


@pytest.fixture(scope="module")
def exported() -> dict[str, set[str]]:
    return Traffic().exported()


@pytest.mark.parametrize("query", QUERIES, ids=[query.expression[:60] for query in QUERIES])
def test_every_metric_that_is_asked_for_exists(query: Query, exported: dict[str, set[str]]) -> None:
    asked = metrics_in(query.expression)
    assert asked <= exported.keys()
    assert asked or "up{" in query.expression


@pytest.mark.parametrize("query", QUERIES, ids=[query.expression[:60] for query in QUERIES])
def test_every_label_that_is_asked_for_exists(query: Query, exported: dict[str, set[str]]) -> None:
    matched = re.findall(r"([a-z_]+)=~?\"", query.expression)
    grouped = [
        label.strip()
        for inner in re.findall(r"by \(([^)]*)\)", query.expression)
        for label in inner.split(",")
    ]
    known = set().union(*(exported[name] for name in metrics_in(query.expression)))
    assert {*matched, *grouped} <= known | SCRAPED


def test_what_every_server_says_of_the_one_store_is_not_added_up() -> None:
    of_the_store = {"reco_decisions_waiting", "reco_outbox_resolutions"}
    expressions = [q.expression for q in QUERIES if metrics_in(q.expression) & of_the_store]
    assert len(expressions) == 3
    assert all(expression.startswith("max(") for expression in expressions)


def test_who_is_turned_away_for_a_wrong_key_is_no_sign_of_overload() -> None:
    [overloaded] = [query for query in QUERIES if query.where == "Overloaded"]
    assert 'reco_http_rejected_total{reason="overload"}' in overloaded.expression


def test_every_metric_of_ours_is_shown_or_watched(exported: dict[str, set[str]]) -> None:
    shown = {name for query in QUERIES for name in metrics_in(query.expression)}
    informative = {"reco_build_info", "reco_policy_info", "reco_delivery_info"}
    in_detail = {"reco_offset", "reco_view_offset", "reco_view_bytes", "reco_visits_sent_total"}
    ours = {name for name in exported if name.startswith("reco_") and not name.endswith("_created")}
    parts = {name for name in ours if name.endswith(("_sum", "_count"))}
    histograms = {f"{name.rpartition('_')[0]}_bucket" for name in shown & parts}
    assert ours - parts - shown - histograms <= informative | in_detail


def test_every_panel_has_a_unit_a_title_of_its_own_and_says_what_it_shows() -> None:
    titles = [panel["title"] for panel in panels()]
    assert len(titles) == len(set(titles))
    for panel in panels():
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["description"].endswith(".")


def test_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in panels():
        at = panel["gridPos"]
        cells = {(at["x"] + i, at["y"] + j) for i in range(at["w"]) for j in range(at["h"])}
        assert not cells & taken
        assert at["x"] + at["w"] <= 24
        taken |= cells


def test_every_alert_says_how_bad_it_is_and_what_has_happened() -> None:
    names = [rule["alert"] for rule in alerts()]
    assert len(names) == len(set(names))
    for rule in alerts():
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert len(rule["annotations"]["summary"]) > 20
