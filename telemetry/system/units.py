"""Durations and numbers in the notation of Prometheus, Loki and Grafana."""

from __future__ import annotations

import re

_UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"(\d+)(s|m|h|d)")


def parse_duration(text: str) -> int:
    """Parse a duration such as ``15s``, ``5m``, ``1h30m``, ``2d`` or ``0`` to seconds.

    Raises:
        ValueError: the text is not a duration.
    """
    if text == "0":
        return 0
    if not text or _DURATION.sub("", text):
        raise ValueError(text)
    return sum(int(number) * _UNIT_S[unit] for number, unit in _DURATION.findall(text))


def format_duration(seconds: int) -> str:
    """Format seconds as the shortest duration that Prometheus, Loki, Alertmanager and Grafana all
    accept."""
    for unit in ("d", "h", "m"):
        if seconds and seconds % _UNIT_S[unit] == 0:
            return f"{seconds // _UNIT_S[unit]}{unit}"
    return f"{seconds}s"


def number(value: float) -> str:
    """Format a number for people and PromQL: no exponent, no trailing zeros."""
    return f"{value:.6f}".rstrip("0").rstrip(".")
