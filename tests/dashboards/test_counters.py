"""Days, budgets and totals are right across midnights, resets and downtimes of the proxy.

promtool evaluates the expressions: its series begin at the epoch, which is a UTC midnight.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from telemetry.promql.functions import daily_increase, exact_increase, or_zero, today
from tests.engines import engine

pytestmark = pytest.mark.stack

NAME = "spent_usd_total"
_AN_HOUR = 12  # samples: one every five minutes


def _stays(value: int, hours: float) -> str:
    # promtool's "7x3" is four samples: 7 and three more.
    return f"{value}x{round(hours * _AN_HOUR) - 1}"


def _rises(value: int, hours: float) -> str:
    """Rise by 1 with each sample."""
    return f"{value}+1x{round(hours * _AN_HOUR) - 1}"


def _off(hours: float) -> str:
    return f"_x{round(hours * _AN_HOUR)}"


def _check(
    tmp_path: Path,
    series: dict[str, list[str]],
    expected: list[tuple[str, str, dict[str, float]]],
    name: str = NAME,
) -> None:
    """Check each (expression, time, values by model) on these series by model."""
    tests: dict[str, Any] = {
        "evaluation_interval": "5m",
        "tests": [
            {
                "interval": "5m",
                "input_series": [
                    {"series": f'{name}{{model="{model}"}}', "values": " ".join(values)}
                    for model, values in series.items()
                ],
                "promql_expr_test": [
                    {
                        "expr": expression,
                        "eval_time": at,
                        "exp_samples": [
                            {"labels": f'{{model="{model}"}}' if model else "{}", "value": value}
                            for model, value in values.items()
                        ],
                    }
                    for expression, at, values in expected
                ],
            }
        ],
    }
    file = tmp_path / "case.yaml"
    file.write_text(yaml.safe_dump(tests))
    promtool = [engine("promtool"), "test", "rules", str(file)]
    done = subprocess.run(promtool, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_total_includes_first_value_and_increase_while_proxy_was_off(
    tmp_path: Path,
) -> None:
    by_model = exact_increase(NAME, "model", window="4h")
    series = {
        # From 0: three at once. Two more while it was not reported for two hours.
        "new": [_stays(0, 1 / 12), _stays(3, 1), _off(2), _stays(5, 1.5)],
        # Existed before the window, with a value.
        "old": [_stays(100, 1), _rises(101, 4)],
        # Not reported at the window's start: its first value was spent before.
        "back": [_stays(40, 0.25), _off(1), _stays(40, 1), _stays(41, 3)],
    }
    _check(
        tmp_path,
        series,
        [
            (by_model, "30m", {"new": 3, "old": 0, "back": 0}),
            (by_model, "4h30m", {"new": 2, "old": 43, "back": 1}),
            (exact_increase(NAME, window="4h"), "4h30m", {"": 46}),
            (or_zero(exact_increase(NAME, "", 'model="none"', "4h")), "4h30m", {"": 0}),
        ],
    )


def test_reset_does_not_reduce_the_cost(tmp_path: Path) -> None:
    """A new ledger begins at 0 again, with the same series."""
    by_model = f"round({exact_increase(NAME, 'model', window='2h')})"
    series = {
        # Reset after an hour, rising before and after.
        "within": [_rises(0, 1), _rises(0, 2)],
        # Reset between the window's start and the first value in it.
        "before": [_stays(500, 1), _rises(0, 2)],
    }
    # The increase between the last value before a reset and the first after it is unknown. With a
    # reset within the window, the result is Prometheus' estimate.
    _check(
        tmp_path,
        series,
        [
            (by_model, "2h5m", {"within": 23, "before": 14}),
            (by_model, "2h57m", {"within": 23, "before": 23}),
        ],
    )


def test_days_are_utc_days_and_add_up(tmp_path: Path) -> None:
    days = daily_increase(NAME, "model")
    series = {
        # One at noon and one at 23:00; two at 02:00 of the second day, four on the third.
        "a": [_stays(0, 12), _stays(1, 11), _stays(2, 3), _stays(4, 28), _stays(8, 1)],
        # Since 06:00 of the first day; off from 22:00 of the second to 01:00.
        "off": [_off(6), _stays(0, 1), _stays(1, 39), _off(3), _stays(3, 6)],
    }
    _check(
        tmp_path,
        series,
        [
            (days, "0s", {"a": 2, "off": 1}),
            (days, "1d", {"a": 2, "off": 0}),
            (days, "2d", {"a": 4, "off": 2}),
            (exact_increase(NAME, "model", window="3d"), "2d6h50m", {"a": 8, "off": 3}),
        ],
    )


def test_reset_on_one_day_leaves_other_days_exact(tmp_path: Path) -> None:
    days = daily_increase(NAME, "model")
    series = {
        "a": [_stays(0, 1), _stays(7, 24), _stays(9, 5), _stays(0, 1), _stays(3, 18), _stays(8, 2)]
    }
    _check(
        tmp_path,
        series,
        [
            (days, "0s", {"a": 7}),
            (f"round({days})", "1d", {"a": 5}),
            (days, "2d", {"a": 5}),
            ("vector(1)", "2d2h", {"": 1}),  # promtool loads series only up to the last time
        ],
    )


def test_todays_cost_ends_at_midnight_with_or_without_proxy(tmp_path: Path) -> None:
    shown = or_zero(f"sum({today('cost_today_usd', 'model')})")
    _check(
        tmp_path,
        {"off": [_stays(5, 23)]},
        [
            (shown, "12h", {"": 5}),
            (shown, "23h50m", {"": 5}),
            (shown, "24h1m", {"": 0}),
            (shown, "30h", {"": 0}),
        ],
        "cost_today_usd",
    )
    # The cost starts again at midnight; the proxy is off from 01:00 to 09:00.
    _check(
        tmp_path,
        {"back": [_stays(5, 24), _stays(1, 1), _off(8), _stays(2, 1)]},
        [(shown, "23h50m", {"": 5}), (shown, "28h", {"": 1}), (shown, "33h30m", {"": 2})],
        "cost_today_usd",
    )
