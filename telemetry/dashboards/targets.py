"""Queries, as the targets of a panel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from grafana_foundation_sdk.builders import loki as loki_query
from grafana_foundation_sdk.builders import prometheus as prometheus_query
from grafana_foundation_sdk.cog import variants
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models import prometheus as prometheus_model

from telemetry.dashboards.panel_ids import LOKI, PROMETHEUS
from telemetry.promql.functions import RATE

Source = Literal["prometheus", "loki"]

PROMETHEUS_REF = model.DataSourceRef(type_val="prometheus", uid=PROMETHEUS)
LOKI_REF = model.DataSourceRef(type_val="loki", uid=LOKI)

# Grafana makes $__rate_interval four of these, so that a rate of a process that exports once a
# minute, OpenTelemetry's default, has two values. (Grafana 9 takes four of the data source's
# interval instead.)
RATE_STEP = "30s"


@dataclass(frozen=True)
class Target:
    """A query, and the name of its answer.

    Args:
        expr: PromQL or LogQL.
        legend: the series' name, with ``{{label}}``; empty for all labels.
        instant: query the end of the time range only.
        step: least time between points, e.g. ``1d``; empty lets Grafana choose, for rates no
            less than `RATE_STEP`.
        source: the data source.
        form: how Grafana reads the answer.
    """

    expr: str
    legend: str = ""
    instant: bool = False
    step: str = ""
    source: Source = "prometheus"
    form: Literal["time_series", "table", "heatmap"] = "time_series"


def quantiles(query: Callable[[float], str]) -> list[Target]:
    """Query the median, the 95th and the 99th percentile."""
    return [Target(query(q), f"p{100 * q:g}") for q in (0.5, 0.95, 0.99)]


def letter(place: int) -> str:
    """Return the refId of the target at a place."""
    return chr(ord("A") + place)


def grafana_target(target: Target, ref: str) -> variants.Dataquery:
    """Return a query as Grafana's model has it."""
    if target.source == "loki":
        loki = loki_query.Dataquery().expr(target.expr).ref_id(ref).datasource(LOKI_REF)
        loki.query_type("instant" if target.instant else "range")
        return (loki.legend_format(target.legend) if target.legend else loki).build()
    query = (
        prometheus_query.Dataquery()
        .expr(target.expr)
        .ref_id(ref)
        .datasource(PROMETHEUS_REF)
        .editor_mode(prometheus_model.QueryEditorMode.CODE)
        .format(prometheus_model.PromQueryFormat(target.form))
        .legend_format(target.legend or "__auto")
    )
    step = target.step or (RATE_STEP if RATE in target.expr else "")
    if step:
        query.interval(step)
    return (query.instant() if target.instant else query.range()).build()
