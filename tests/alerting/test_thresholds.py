"""Thresholds are read from TELEMETRY_ALERT_*, and change the rules."""

from __future__ import annotations

import pytest

from telemetry.alerting.rules import all_rules
from telemetry.alerting.thresholds import Thresholds
from telemetry.errors import ConfigError, TelemetryError


def test_thresholds_have_the_planned_defaults() -> None:
    assert Thresholds.from_env({}) == Thresholds(
        memory_percent=90,
        memory_for_s=300,
        service_down_for_s=15,
        cost_usd=10,
        budget_percent=90,
        error_percent=5,
        error_min_requests=20,
        error_for_s=300,
        restarts=3,
        unhealthy_for_s=60,
        error_lines=20,
        error_lines_ratio=5,
        error_lines_for_s=300,
        disk_percent=85,
        disk_hours=24,
        disk_for_s=300,
        queue_depth=10,
        queue_for_s=300,
        quota_rejections=20,
    )


def test_environment_changes_the_threshold_of_a_rule() -> None:
    environ = {"TELEMETRY_ALERT_COST_USD": "2.5", "TELEMETRY_ALERT_MEMORY_FOR": "30s"}
    rules = {rule.name: rule for rule in all_rules(Thresholds.from_env(environ))}
    assert rules["HighCostRate"].threshold == 2.5
    assert "2.5 USD" in rules["HighCostRate"].description
    assert rules["ContainerOOM"].for_s == 30


def test_every_setting_reaches_a_rule() -> None:
    """A setting that changes no rule would be useless."""
    before = all_rules(Thresholds())
    for key in (one.variable for one in Thresholds.settings()):
        changed = Thresholds.from_env({key: "77s" if key.endswith("_FOR") else "77"})
        assert all_rules(changed) != before, key


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("TELEMETRY_ALERT_COST_USD", "ten", "a number of 0 or more"),
        ("TELEMETRY_ALERT_COST_USD", "-1", "a number of 0 or more"),
        ("TELEMETRY_ALERT_COST_USD", "nan", "a number of 0 or more"),
        ("TELEMETRY_ALERT_MEMORY_PERCENT", "0.9", "a percentage from 1 to 100"),
        ("TELEMETRY_ALERT_MEMORY_PERCENT", "120", "a percentage from 1 to 100"),
        ("TELEMETRY_ALERT_ERROR_PERCENT", "0.05", "a percentage from 0.1 to 100"),
        ("TELEMETRY_ALERT_MEMORY_FOR", "5", "a duration like 15s, 5m, 1h or 0"),
        ("TELEMETRY_ALERT_MEMORY_FOR", "5 m", "a duration like 15s, 5m, 1h or 0"),
    ],
)
def test_invalid_threshold_is_an_error_that_says_what_is_expected(
    key: str, value: str, expected: str
) -> None:
    with pytest.raises(ConfigError) as error:
        Thresholds.from_env({key: value})
    assert error.value.message == f"{key}={value!r} is not {expected}"
    assert error.value.exit_code == 78


def test_misspelt_setting_is_an_error() -> None:
    with pytest.raises(TelemetryError, match="TELEMETRY_ALERT_COSTS_USD is not a setting") as error:
        Thresholds.from_env({"TELEMETRY_ALERT_COSTS_USD": "3"})
    assert error.value.remedy == "did you mean TELEMETRY_ALERT_COST_USD?"


def test_settings_of_channels_and_evaluator_are_not_thresholds() -> None:
    Thresholds.from_env(
        {"TELEMETRY_ALERT_EMAIL_TO": "a@b.c", "TELEMETRY_ALERTING": "grafana", "PATH": "/bin"}
    )
