"""A notice's runbook link leads to the alert's heading."""

from __future__ import annotations

import re

from telemetry.alerting.rules import all_rules
from telemetry.alerting.thresholds import Thresholds
from telemetry.dashboards.inventory import dashboards
from telemetry.services.gateway.runbooks import page
from telemetry.system import packaged_files


def test_every_rules_anchor_is_on_the_page() -> None:
    html = page()
    for rule in all_rules(Thresholds()):
        assert f'<h2 id="{rule.name.lower()}">{rule.name}</h2>' in html


def test_commands_are_escaped_and_tables_are_rendered() -> None:
    html = page()
    assert "<td><code>loki_discarded_samples_total</code></td>" in html
    assert "'{{json .State}}'" in html
    assert "tail</code>" in html


def test_panels_have_their_titles_on_the_dashboards() -> None:
    titles = {
        model["title"]: {panel["title"] for panel in model["panels"]} for model in dashboards()
    }
    text = packaged_files.path("docs/runbooks.md").read_text()
    named = re.findall(r"([A-Z][\w ]+(?:& usage)?), panels? ((?:\*[^*]+\*[\s,and]*)+)", text)
    assert len(named) == len(re.findall(r", panels? ", text)) > 10
    for dashboard, panels in named:
        assert set(re.findall(r"\*([^*]+)\*", panels)) <= titles[dashboard.split("dashboard ")[-1]]
