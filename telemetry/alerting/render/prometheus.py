"""Rule files for Prometheus and Loki's ruler (and Mimir, which reads the same format).

Source: https://prometheus.io/docs/prometheus/latest/configuration/alerting_rules/
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from telemetry.alerting.links import Links, texts
from telemetry.alerting.render import yaml_blocks
from telemetry.alerting.rule import Rule, Source
from telemetry.system.units import format_duration, number

_HEAD = "Rendered by `python -m telemetry.alerting`; change telemetry/alerting/rules instead."


def rule_files(rules: Iterable[Rule], links: Links, source: Source) -> dict[str, str]:
    """Render the rule files of one store: file name to content, one file per group.

    Args:
        rules: all rules; those of the other store are left out.
        links: base addresses of the alerts' links.
        source: the store that evaluates them.
    """
    groups: dict[str, dict[str, Any]] = {}
    for rule in rules:
        if rule.source == source:
            group = groups.setdefault(
                rule.group.name,
                {
                    "name": rule.group.name,
                    "interval": format_duration(rule.group.interval_s),
                    "rules": [],
                },
            )
            group["rules"].append(_rule(rule, links))
    return {
        f"{name}.rules.yaml": yaml_blocks.dump({"groups": [group]}, head=_HEAD)
        for name, group in groups.items()
    }


def condition(rule: Rule) -> str:
    """Return the rule as one expression, whose result is empty unless the alert fires."""
    body = rule.expression
    if "\n" in body:
        inner = "\n".join("  " + line for line in body.splitlines())
        body = f"(\n{inner}\n)"
    return f"{body} {rule.comparison} {number(rule.threshold)}"


def _rule(rule: Rule, links: Links) -> dict[str, Any]:
    return {
        "alert": rule.name,
        "expr": condition(rule),
        "for": format_duration(rule.for_s),
        "labels": {"severity": rule.severity},
        "annotations": texts(rule, links, ".Value"),
    }
