"""Durations and numbers in the engines' notation."""

from __future__ import annotations

import pytest

from telemetry.system.units import format_duration, number, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"), [("0", 0), ("15s", 15), ("5m", 300), ("1h30m", 5400), ("2d", 172800)]
)
def test_durations_are_read_and_written(text: str, seconds: int) -> None:
    assert parse_duration(text) == seconds
    assert parse_duration(format_duration(seconds)) == seconds


def test_numbers_are_written_without_exponents() -> None:
    assert [number(n) for n in (0.05, 10, 86400, 0.85, 1e9)] == [
        "0.05",
        "10",
        "86400",
        "0.85",
        "1000000000",
    ]


@pytest.mark.parametrize("text", ["", "5", "5 m", "m", "-5m", "1.5h", "5M"])
def test_text_that_is_not_a_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=text or "^$"):
        parse_duration(text)
