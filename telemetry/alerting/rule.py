"""An alert rule as data, whatever evaluates it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Source = Literal["prometheus", "loki"]
Severity = Literal["critical", "warning"]
Comparison = Literal[">", "<"]
# Grafana's words, https://grafana.com/docs/grafana/latest/alerting/fundamentals/alert-rule-evaluation/
# "KeepLast" would often be better, but Grafana 9.4 doesn't start with it.
NoDataState = Literal["OK", "NoData", "Alerting"]
ErrorState = Literal["OK", "Error", "Alerting"]

# Stands for the number the rule compares, in a rule's texts: Prometheus and Loki call it
# `.Value`, Grafana keeps one for each of its queries.
VALUE = "@value@"


def count(noun: str) -> str:
    """The value as a whole number of ``noun``: ``1 call``, ``2 calls``."""
    return f'{{{{ printf "%.0f" {VALUE} }}}} {noun}{{{{ if ne {VALUE} 1.0 }}}}s{{{{ end }}}}'


@dataclass(frozen=True)
class Group:
    """Rules evaluated together.

    Args:
        name: unique.
        interval_s: seconds between evaluations. Grafana rounds it up to whole tens.
    """

    name: str
    interval_s: int


@dataclass(frozen=True)
class Rule:
    """One alert.

    Args:
        name: the alert's name; its runbook's heading.
        source: the language of ``expression`` and the store it asks.
        group: evaluated together with the others of this group.
        expression: PromQL or LogQL whose value is compared, aggregated to ``labels``. No ``$``
            in it: Grafana versions differ in where they interpolate.
        comparison: how the value relates to ``threshold`` while the alert holds.
        threshold: in the expression's unit.
        for_s: seconds the comparison must hold.
        severity: decides the route.
        labels: what a firing alert is told apart by.
        summary: one line: what and where. A Go template without variables (``.Labels``).
        description: the same with the present value, and what it means.
        value: the present value with its unit.
        panel: the dashboard panel that shows it, by its name in ``telemetry.dashboards``.
        no_data: Grafana's state where the query answers no series.
        on_error: Grafana's state where the query fails.
        states_reason: why these two.
        variables: dashboard variables set by the link, as (variable, label).
    """

    name: str
    source: Source
    group: Group
    expression: str
    comparison: Comparison
    threshold: float
    for_s: int
    severity: Severity
    labels: tuple[str, ...]
    summary: str
    description: str
    value: str
    panel: str
    no_data: NoDataState
    on_error: ErrorState
    states_reason: str
    variables: tuple[tuple[str, str], ...] = ()
