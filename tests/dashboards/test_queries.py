"""Every query asks for series that exist, by labels they have."""

from __future__ import annotations

import re

import pytest

from telemetry import catalog
from telemetry.dashboards import Query, all_queries
from telemetry.promql.losses import LOSS_COUNTERS
from tests.dashboards import known, promql

SERIES = known.ours() | known.ENGINES
QUERIES = [query for query in all_queries() if query.datasource == "prometheus"]
LOG_LABELS = {"service_name", "handle", "level"}

# Shown nowhere, on purpose; a metric that is added stands on a panel or here, with the reason.
NOT_SHOWN = {
    catalog.CPYTHON_GC_COLLECTED_OBJECTS.name: "of use to who profiles, not to who operates",
}


def _id(query: Query) -> str:
    return f"{query.dashboard}-{query.panel}"


@pytest.mark.parametrize("query", QUERIES, ids=_id)
def test_a_query_asks_for_series_and_labels_there_are(query: Query) -> None:
    labels: set[str] = set()
    for selector in promql.selectors(query.expr):
        names = [selector.name] if selector.name else _matching(selector.pattern)
        assert names, f"no series is called {selector.pattern}"
        for name in names:
            assert name in SERIES, f"{name} is neither in the catalogue nor an engine's"
            # A pattern may stand for several metrics, of which one has the label.
            if selector.name:
                assert selector.labels <= SERIES[name], f"{name} has no {selector.labels}"
            labels |= SERIES[name]
    assert promql.grouped(query.expr) <= labels | promql.made(query.expr) | _of_losses(query)


def _matching(pattern: str) -> list[str]:
    return [name for name in SERIES if re.fullmatch(pattern, name)]


def _of_losses(query: Query) -> set[str]:
    # What is lost is counted by many counters, most of which appear with their first loss.
    if LOSS_COUNTERS not in query.expr:
        return set()
    return {"metric", "signal", "reason", "receiver", "exporter", "integration"}


def test_every_metric_of_the_catalogue_is_shown_or_left_out_on_purpose() -> None:
    asked = {s.name for query in QUERIES for s in promql.selectors(query.expr)} | {
        name
        for query in QUERIES
        for s in promql.selectors(query.expr)
        if s.pattern
        for name in _matching(s.pattern)
    }
    shown = {re.sub(r"_(bucket|sum|count)$", "", name) for name in asked} | asked
    missing = {m.name for m in catalog.METRICS.values() if m.prometheus not in shown}
    assert missing == set(NOT_SHOWN)


@pytest.mark.parametrize(
    "query", [query for query in all_queries() if query.datasource == "loki"], ids=_id
)
def test_a_log_query_selects_streams_by_the_labels_they_have(query: Query) -> None:
    [selector] = set(re.findall(r"\{([^}]*)\}", query.expr))
    assert set(re.findall(r"(\w+)\s*(?:=|!)", selector)) <= LOG_LABELS
    assert set(re.findall(r"by \(([^)]*)\)", query.expr)) <= {"level", "service_name, handle"}


def test_chosen_values_take_the_place_of_all() -> None:
    chosen = all_queries({"handle": "demo-1|demo-2"})
    assert any('handle=~"demo-1|demo-2"' in query.expr for query in chosen)
    assert not any('handle=~".*"' in query.expr for query in chosen)
    assert not any("$" in query.expr.replace('"$1"', "") for query in chosen)


def test_times_are_filled_in_as_grafana_does() -> None:
    rates = [query for query in QUERIES if query.panel == "overview.requests"]
    assert [(query.step_s, query.range_s) for query in rates] == [(30, 3600)]
    assert "[120s]" in rates[0].expr
    [long] = [q for q in all_queries(range_s=90 * 86400) if q.panel == "overview.requests"]
    assert long.step_s == 12960
    assert "[12990s]" in long.expr
