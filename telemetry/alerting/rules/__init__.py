"""The alert rules, each once.

One file a subject. ``all_rules`` is what the renderers, the tests and ``telemetry alerts list``
read.
"""

from __future__ import annotations

from telemetry.alerting.rule import Rule
from telemetry.alerting.rules import containers, logs, pipeline, services, spending
from telemetry.alerting.thresholds import Thresholds

# Names of rules that an earlier release provisioned and this one does not have. Grafana keeps
# a rule whose file is gone until it is told to delete it (grafana/grafana#67036).
RETIRED: tuple[str, ...] = ()


def all_rules(thresholds: Thresholds) -> tuple[Rule, ...]:
    """Every rule with these thresholds, by group, in the order people read them."""
    return (
        *containers.rules(thresholds),
        *services.rules(thresholds),
        *spending.rules(thresholds),
        *pipeline.rules(thresholds),
        *logs.rules(thresholds),
    )
