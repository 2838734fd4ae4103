"""What every alert compares with: one frozen object, read from ``TELEMETRY_ALERT_*``.

A field that ends in ``_s`` holds seconds and is written as a duration
(``TELEMETRY_ALERT_MEMORY_FOR=5m``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from telemetry.settings.declare import DURATION, Declared, number, setting

PREFIX = "TELEMETRY_ALERT_"


def _percent(name: str, default: float, meaning: str, least: float = 1) -> Any:
    # From 1, where less is no sensible limit: 0.9 is meant as 90 %.
    kind = number(least, 100, f"a percentage from {least:g} to 100")
    return setting(PREFIX + name, kind, default, meaning)


def _amount(name: str, default: float, meaning: str) -> Any:
    return setting(PREFIX + name, number(0, 1e9, "a number of 0 or more"), default, meaning)


def _duration(name: str, default: int, meaning: str) -> Any:
    return setting(PREFIX + name, DURATION, default, meaning)


@dataclass(frozen=True)
class Thresholds(Declared):
    """Limits of the alert rules; the defaults are the plan's."""

    PREFIXES: ClassVar[tuple[str, ...]] = (PREFIX,)
    # Of the notifications (channels.py, links.py).
    ELSEWHERE: ClassVar[tuple[str, ...]] = (
        "TELEMETRY_ALERT_EMAIL_TO",
        "TELEMETRY_ALERT_QUIET_HOURS",
        "TELEMETRY_ALERT_RUNBOOK_URL",
    )
    DOCUMENTED: ClassVar[str] = "docs/alerting.md"

    memory_percent: float = _percent("MEMORY_PERCENT", 90, "% of a container's memory limit")
    memory_for_s: int = _duration("MEMORY_FOR", 300, "how long a container must stay above it")
    service_down_for_s: int = _duration(
        "SERVICE_DOWN_FOR", 15, "how long a service must not answer"
    )
    cost_usd: float = _amount("COST_USD", 10, "US dollars that a user may cost in a UTC day")
    budget_percent: float = _percent("BUDGET_PERCENT", 90, "% of a user's budget")
    error_percent: float = _percent(
        "ERROR_PERCENT", 5, "% of a service's requests answered 5xx", least=0.1
    )
    error_min_requests: float = _amount(
        "ERROR_MIN_REQUESTS", 20, "requests in 5 minutes below which no rate is looked at"
    )
    error_for_s: int = _duration("ERROR_FOR", 300, "how long the rate must stay above it")
    restarts: float = _amount("RESTARTS", 3, "restarts in 10 minutes that nobody asked for")
    unhealthy_for_s: int = _duration("UNHEALTHY_FOR", 60, "how long a health check must fail")
    error_lines: float = _amount("ERROR_LINES", 20, "error lines in 5 minutes")
    error_lines_ratio: float = _amount(
        "ERROR_LINES_RATIO", 5, "times the service's own rate of the last day"
    )
    error_lines_for_s: int = _duration("ERROR_LINES_FOR", 300, "how long the burst must last")
    disk_percent: float = _percent("DISK_PERCENT", 85, "% of a file system's space")
    disk_hours: float = _amount("DISK_HOURS", 24, "hours ahead in which it would be full")
    disk_for_s: int = _duration("DISK_FOR", 300, "how long either must hold")
    queue_depth: float = _amount("QUEUE_DEPTH", 10, "waiting messages")
    queue_for_s: int = _duration("QUEUE_FOR", 300, "how long the backlog must last")
    quota_rejections: float = _amount(
        "QUOTA_REJECTIONS", 20, "refused calls of one user in 5 minutes"
    )
