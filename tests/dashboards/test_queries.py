"""Every query uses series that exist and labels that they have."""

from __future__ import annotations

import re

import pytest

from telemetry import catalog
from telemetry.dashboards import Query, all_queries
from telemetry.promql.losses import LOSS_COUNTERS
from tests.dashboards import known_series, promql

SERIES = known_series.catalog_series() | known_series.COMPONENTS
QUERIES = [query for query in all_queries() if query.datasource == "prometheus"]
LOG_LABELS = {"service_name", "handle", "level"}

# Metrics on no panel, with the reason. A new metric must be on a panel or here.
NOT_SHOWN = {
    catalog.CPYTHON_GC_COLLECTED_OBJECTS.name: "useful for profiling, not operations",
    catalog.SERVICES_REQUESTS_REFUSED.name: "useful to look into an attack or a refused client",
}


def _id(query: Query) -> str:
    return f"{query.dashboard}-{query.panel}"


@pytest.mark.parametrize("query", QUERIES, ids=_id)
def test_query_uses_existing_series_and_labels(query: Query) -> None:
    labels: set[str] = set()
    for selector in promql.selectors(query.expr):
        names = [selector.name] if selector.name else _matching(selector.pattern)
        assert names, f"no series is called {selector.pattern}"
        for name in names:
            assert name in SERIES, f"{name} is neither in the catalog nor of a component"
            # A pattern may match several metrics, of which only one has the label.
            if selector.name:
                assert selector.labels <= SERIES[name], f"{name} has no {selector.labels}"
            labels |= SERIES[name]
    assert promql.grouped(query.expr) <= labels | promql.made(query.expr) | _of_losses(query)


def _matching(pattern: str) -> list[str]:
    return [name for name in SERIES if re.fullmatch(pattern, name)]


def _of_losses(query: Query) -> set[str]:
    # Losses have many counters, most of which appear only with their first loss.
    if LOSS_COUNTERS not in query.expr:
        return set()
    return {"metric", "signal", "reason", "receiver", "exporter", "integration"}


def test_every_metric_is_on_a_panel_or_in_the_list_of_exceptions() -> None:
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
def test_log_query_uses_existing_labels(query: Query) -> None:
    [selector] = set(re.findall(r"\{([^}]*)\}", query.expr))
    assert set(re.findall(r"(\w+)\s*(?:=|!)", selector)) <= LOG_LABELS
    assert set(re.findall(r"by \(([^)]*)\)", query.expr)) <= {"level", "service_name, handle"}


def test_selected_values_replace_all() -> None:
    chosen = all_queries({"handle": "demo-1|demo-2"})
    assert any('handle=~"demo-1|demo-2"' in query.expr for query in chosen)
    assert not any('handle=~".*"' in query.expr for query in chosen)
    assert not any("$" in query.expr.replace('"$1"', "") for query in chosen)


def test_intervals_are_computed_like_grafana() -> None:
    rates = [query for query in QUERIES if query.panel == "overview.requests"]
    assert [(query.step_s, query.range_s) for query in rates] == [(30, 3600)]
    assert "[120s]" in rates[0].expr
    [long] = [q for q in all_queries(range_s=90 * 86400) if q.panel == "overview.requests"]
    assert long.step_s == 12960
    assert "[12990s]" in long.expr
