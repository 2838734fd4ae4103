"""Thresholds of the alert rules, read from ``TELEMETRY_ALERT_*``.

A field that ends in ``_s`` holds seconds and is written as a duration
(``TELEMETRY_ALERT_MEMORY_FOR=5m``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from telemetry.settings.declare import DURATION, Declared, number, setting

PREFIX = "TELEMETRY_ALERT_"


def _percent(name: str, default: float, meaning: str, least: float = 1) -> Any:
    # At least 1 by default: a smaller value such as 0.9 is likely meant as 90 %.
    kind = number(least, 100, f"a percentage from {least:g} to 100")
    return setting(PREFIX + name, kind, default, meaning)


def _amount(name: str, default: float, meaning: str) -> Any:
    return setting(PREFIX + name, number(0, 1e9, "a number of 0 or more"), default, meaning)


def _duration(name: str, default: int, meaning: str) -> Any:
    return setting(PREFIX + name, DURATION, default, meaning)


@dataclass(frozen=True)
class Thresholds(Declared):
    """Thresholds of the alert rules."""

    PREFIXES: ClassVar[tuple[str, ...]] = (PREFIX,)
    # Settings of the notifications (channels.py, links.py).
    ELSEWHERE: ClassVar[tuple[str, ...]] = (
        "TELEMETRY_ALERT_EMAIL_TO",
        "TELEMETRY_ALERT_QUIET_HOURS",
        "TELEMETRY_ALERT_RUNBOOK_URL",
    )
    DOCUMENTED: ClassVar[str] = "docs/alerting.md"

    memory_percent: float = _percent(
        "MEMORY_PERCENT", 90, "memory use, in % of a container's limit"
    )
    memory_for_s: int = _duration(
        "MEMORY_FOR", 300, "time for which a container's memory use must stay above the threshold"
    )
    service_down_for_s: int = _duration(
        "SERVICE_DOWN_FOR", 15, "time for which a service must be unreachable"
    )
    cost_usd: float = _amount("COST_USD", 10, "a user's cost in one UTC day, in USD")
    budget_percent: float = _percent("BUDGET_PERCENT", 90, "spending, in % of a user's budget")
    error_percent: float = _percent(
        "ERROR_PERCENT", 5, "5xx responses, in % of a service's requests", least=0.1
    )
    error_min_requests: float = _amount(
        "ERROR_MIN_REQUESTS", 20, "minimum requests in 5 minutes to evaluate the error rate"
    )
    error_for_s: int = _duration(
        "ERROR_FOR", 300, "time for which the error rate must stay above the threshold"
    )
    restarts: float = _amount("RESTARTS", 3, "unrequested restarts of a container in 10 minutes")
    unhealthy_for_s: int = _duration("UNHEALTHY_FOR", 60, "time for which a health check must fail")
    error_lines: float = _amount("ERROR_LINES", 20, "error lines of a service in 5 minutes")
    error_lines_ratio: float = _amount(
        "ERROR_LINES_RATIO", 5, "error lines, as a multiple of the service's rate in the last day"
    )
    error_lines_for_s: int = _duration("ERROR_LINES_FOR", 300, "time for which the burst must last")
    disk_percent: float = _percent("DISK_PERCENT", 85, "used space, in % of a file system")
    disk_hours: float = _amount(
        "DISK_HOURS", 24, "hours within which a file system is predicted to be full"
    )
    disk_for_s: int = _duration("DISK_FOR", 300, "time for which either disk condition must hold")
    queue_depth: float = _amount("QUEUE_DEPTH", 10, "messages waiting in the gateway's queue")
    queue_for_s: int = _duration(
        "QUEUE_FOR", 300, "time for which the queue must stay above the threshold"
    )
    quota_rejections: float = _amount(
        "QUOTA_REJECTIONS", 20, "calls of one user refused in 5 minutes"
    )
