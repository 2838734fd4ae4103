"""Properties of every rule."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from telemetry import catalog
from telemetry.alerting.channels import ChannelVariables
from telemetry.alerting.links import Links
from telemetry.alerting.rule import Rule
from telemetry.alerting.rules import RETIRED, all_rules
from telemetry.alerting.thresholds import Thresholds
from telemetry.dashboards import PANELS, render

TOP = Path(__file__).parents[2]
RULES = all_rules(Thresholds())

# The plan's table: alert, duration in s, severity.
PLAN = {
    "ContainerOOM": (300, "critical"),
    "ContainerOOMKilled": (0, "critical"),
    "ContainerDown": (0, "critical"),
    "ServiceDown": (15, "critical"),
    "HighCostRate": (0, "warning"),
    "BudgetNearlySpent": (0, "warning"),
    "HighErrorRate": (300, "warning"),
    "ContainerRestartLoop": (0, "warning"),
    "ContainerUnhealthy": (60, "warning"),
    "ErrorLogBurst": (300, "warning"),
    "DiskSpaceLow": (300, "warning"),
    "DispatchQueueBacklog": (300, "warning"),
    "UnpricedModel": (0, "warning"),
    "TelemetryLoss": (0, "warning"),
    "QuotaRejections": (0, "warning"),
}


def test_rules_have_the_planned_durations_and_severities() -> None:
    assert {rule.name: (rule.for_s, rule.severity) for rule in RULES} == PLAN
    assert len(RULES) == len(PLAN)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_rule_is_complete(rule: Rule) -> None:
    assert rule.panel in PANELS
    assert "@value@" in rule.description, "the description must contain the current value"
    assert "@value@" in rule.value
    assert rule.states_reason.endswith(".")
    assert rule.summary
    texts = (rule.expression, rule.summary, rule.description, rule.value)
    # Grafana's versions differ in where they interpolate environment variables.
    assert not any("$" in text for text in texts)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_rule_is_aggregated_to_the_labels_it_alerts_on(rule: Rule) -> None:
    """Every selector is inside an aggregation by exactly these labels, or more."""
    wanted = set(rule.labels)
    by = [
        {label.strip() for label in labels.split(",")}
        for labels in re.findall(r"\b(?:sum|max|min|topk) by \(([^)]*)\)", rule.expression)
    ]
    assert wanted in by
    outermost = re.match(r"[\s(]*(?:sum|max|min) by \(([^)]*)\)", rule.expression)
    assert outermost is not None, "the outermost operation must be an aggregation"
    assert {label.strip() for label in outermost[1].split(",")} == wanted


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_rules_texts_name_only_labels_it_has(rule: Rule) -> None:
    used = re.findall(r'\.Labels\.(\w+)|index \.Labels "(\w+)"', rule.summary + rule.description)
    assert {a or b for a, b in used} <= set(rule.labels)
    assert {label for _, label in rule.variables} <= set(rule.labels)


def test_links_lead_to_panels_and_variables_that_the_dashboards_have(tmp_path: Path) -> None:
    dashboards = {}
    for path in render(tmp_path):
        model = json.loads(path.read_text())
        dashboards[model["uid"]] = model
    for rule in RULES:
        uid, panel = PANELS[rule.panel]
        model = dashboards[uid]
        variables = {variable["name"] for variable in model["templating"]["list"]}
        assert {variable for variable, _ in rule.variables} <= variables, rule.name
        assert panel in {found["id"] for found in model["panels"]}, rule.name


def test_own_metrics_are_named_as_in_the_catalog() -> None:
    """A rule with a metric that was renamed in the catalog would never fire."""
    ours = re.compile(r"\b(?:platform|proxy|gateway|telemetry|http_server)_[a-z_]+\b")
    known = {metric.prometheus for metric in catalog.METRICS.values()}
    known |= {name + "_count" for name in known}
    for rule in RULES:
        assert set(ours.findall(rule.expression)) <= known, rule.name


def test_every_released_rule_still_exists_or_is_retired() -> None:
    released = (Path(__file__).parent / "released_rules.txt").read_text().split()
    names = {rule.name for rule in RULES}
    assert set(released) <= names | set(RETIRED)
    assert names <= set(released), "add a new rule to released_rules.txt"
    assert not names & set(RETIRED)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_every_rule_has_a_runbook_that_answers_the_four_questions(rule: Rule) -> None:
    text = (TOP / "docs/runbooks.md").read_text()
    sections = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", text, re.M | re.S))
    assert rule.name in sections
    for part in ("**Means.**", "**Look first.**", "**Causes.**", "**Remedy.**"):
        assert part in sections[rule.name], part


def test_documented_settings_are_those_in_use() -> None:
    text = (TOP / "docs/alerting.md").read_text()
    documented = set(re.findall(r"\bTELEMETRY_(?:ALERT|SMTP|SLACK|TELEGRAM|WEBHOOK)_[A-Z_]+", text))
    settings = (*Thresholds.settings(), *ChannelVariables.settings(), *Links.settings())
    elsewhere = {"TELEMETRY_GATEWAY_URL", "TELEMETRY_GRAFANA_URL"}
    assert documented == {one.variable for one in settings} - elsewhere
