"""A notice's runbook link leads to its alert's heading."""

from __future__ import annotations

from telemetry.alerting.rules import all_rules
from telemetry.alerting.runbooks import page
from telemetry.alerting.thresholds import Thresholds


def test_every_rules_anchor_is_on_the_page() -> None:
    html = page()
    for rule in all_rules(Thresholds()):
        assert f'<h2 id="{rule.name.lower()}">{rule.name}</h2>' in html


def test_commands_are_escaped_and_tables_are_tables() -> None:
    html = page()
    assert "<td><code>loki_discarded_samples_total</code></td>" in html
    assert "'{{json .State}}'" in html
    assert "tail</code>" in html
