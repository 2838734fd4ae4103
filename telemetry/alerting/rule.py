"""An alert rule as data, independent of its evaluator."""

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

# Placeholder for the compared number in a rule's texts: Prometheus and Loki call it `.Value`,
# Grafana has a value for each of its queries.
VALUE = "@value@"


def count(noun: str) -> str:
    """Format the value as a whole number of ``noun``: ``1 call``, ``2 calls``."""
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
        source: the store to query, and so the language of ``expression``.
        group: the rules it is evaluated with.
        expression: PromQL or LogQL whose value is compared, aggregated to ``labels``. No ``$``
            in it: Grafana versions differ in where they interpolate.
        comparison: relation of the value to ``threshold`` that fires the alert.
        threshold: in the expression's unit.
        for_s: how long the comparison must hold, s.
        severity: decides the route.
        labels: labels that identify an alert instance.
        summary: one line: what and where. A Go template without variables (``.Labels``).
        description: the same with the current value, and what it means.
        value: the current value with its unit.
        panel: the panel that shows it, by its name in `telemetry.dashboards.panel_ids`.
        no_data: Grafana's state if the query returns no series.
        on_error: Grafana's state if the query fails.
        states_reason: why these two states.
        variables: dashboard variables that the link sets, as (variable, label).
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
