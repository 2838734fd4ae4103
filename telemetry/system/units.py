"""Durations and numbers as people, Prometheus, Loki and Grafana write them."""

from __future__ import annotations

import re

_UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"(\d+)(s|m|h|d)")


def parse_duration(text: str) -> int:
    """Seconds of ``15s``, ``5m``, ``1h30m``, ``2d`` or ``0``.

    Raises:
        ValueError: it is none of these.
    """
    if text == "0":
        return 0
    if not text or _DURATION.sub("", text):
        raise ValueError(text)
    return sum(int(number) * _UNIT_S[unit] for number, unit in _DURATION.findall(text))


def format_duration(seconds: int) -> str:
    """The shortest duration that Prometheus, Loki, Alertmanager and Grafana all read."""
    for unit in ("d", "h", "m"):
        if seconds and seconds % _UNIT_S[unit] == 0:
            return f"{seconds // _UNIT_S[unit]}{unit}"
    return f"{seconds}s"


def number(value: float) -> str:
    """A number as people and PromQL write it: no exponent, no idle zeros."""
    return f"{value:.6f}".rstrip("0").rstrip(".")
