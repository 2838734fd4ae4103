"""The alert rules, one file for each subject.

The renderers, the tests and ``telemetry alerts list`` read them from ``all_rules``.
"""

from __future__ import annotations

from telemetry.alerting.rule import Rule
from telemetry.alerting.rules import containers, logs, pipeline, services, spending
from telemetry.alerting.thresholds import Thresholds

# Names of rules that an earlier release provisioned and this one no longer has. Grafana keeps a
# rule whose file is gone until a file lists it for deletion (grafana/grafana#67036).
RETIRED: tuple[str, ...] = ()


def all_rules(thresholds: Thresholds) -> tuple[Rule, ...]:
    """Return every rule with these thresholds, in reading order."""
    return (
        *containers.rules(thresholds),
        *services.rules(thresholds),
        *spending.rules(thresholds),
        *pipeline.rules(thresholds),
        *logs.rules(thresholds),
    )
