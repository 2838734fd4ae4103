"""promtool accepts the rendered rules and passes the cases in *.test.yaml."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml

from telemetry.alerting.rules import all_rules
from telemetry.alerting.thresholds import Thresholds
from tests.engines import engine

HERE = Path(__file__).parent
TOP = HERE.parent.parent
CASES = sorted(HERE.glob("*.test.yaml"))


def _promtool(*arguments: str) -> str:
    result = subprocess.run(
        [engine("promtool"), *arguments], capture_output=True, text=True, timeout=120, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.mark.stack
def test_promtool_accepts_the_rules() -> None:
    files = sorted((TOP / "compose/prometheus/rules").glob("*.yaml"))
    assert _promtool("check", "rules", "--lint-fatal", *map(str, files)).count("SUCCESS") == 5


@pytest.mark.stack
@pytest.mark.parametrize("case", CASES, ids=lambda path: path.name)
def test_cases(case: Path) -> None:
    assert "SUCCESS" in _promtool("test", "rules", str(case))


def test_every_prometheus_rule_fires_in_one_case_and_is_silent_in_two() -> None:
    fires: dict[str, int] = {}
    silent: dict[str, int] = {}
    for case in CASES:
        for test in yaml.safe_load(case.read_text())["tests"]:
            name = test["name"].split()[0]
            expectations = [
                bool(expected.get("exp_alerts"))
                for expected in test.get("alert_rule_test", ())
                if expected["alertname"] == name
            ] + [
                bool(expected.get("exp_samples"))
                for expected in test.get("promql_expr_test", ())
                if f'alertname="{name}"' in expected["expr"]
            ]
            assert expectations, f"{case.name}: {test['name']} checks nothing of {name}"
            fires[name] = fires.get(name, 0) + any(expectations)
            silent[name] = silent.get(name, 0) + (not all(expectations))
    rules = {rule.name for rule in all_rules(Thresholds()) if rule.source == "prometheus"}
    assert set(fires) == rules
    assert {name for name in rules if fires[name] < 1 or silent[name] < 2} == set()


def test_every_counter_has_a_case_with_a_reset() -> None:
    names = [test["name"] for case in CASES for test in yaml.safe_load(case.read_text())["tests"]]
    for rule in (
        "ContainerOOMKilled",
        "ContainerRestartLoop",
        "HighErrorRate",
        "UnpricedModel",
        "QuotaRejections",
        "TelemetryLoss",
    ):
        assert any(name.startswith(rule) and "reset" in name for name in names), rule
