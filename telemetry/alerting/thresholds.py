"""What every alert compares with: one frozen object, read from ``TELEMETRY_ALERT_*``.

``Thresholds.memory_percent`` is ``TELEMETRY_ALERT_MEMORY_PERCENT`` and so on; a field that ends
in ``_s`` holds seconds and is written as a duration (``TELEMETRY_ALERT_MEMORY_FOR=5m``).
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from telemetry.errors import ConfigError, TelemetryError
from telemetry.system.units import parse_duration

PREFIX = "TELEMETRY_ALERT_"

# Settings with the same prefix that belong to the notifications (channels.py, links.py).
NOTIFICATION_KEYS = (
    "TELEMETRY_ALERT_EMAIL_TO",
    "TELEMETRY_ALERT_QUIET_HOURS",
    "TELEMETRY_ALERT_RUNBOOK_URL",
)


def _number_within(low: float, high: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        value = float(text)
        if not (math.isfinite(value) and low <= value <= high):
            raise ValueError(text)
        return value

    return parse


def _percent(default: float, least: float = 1) -> Any:
    # From 1, where less is no sensible limit: 0.9 is meant as 90 %.
    expected = f"a percentage from {least:g} to 100"
    metadata = {"parse": _number_within(least, 100), "expected": expected}
    return field(default=default, metadata=metadata)


def _amount(default: float) -> Any:
    metadata = {"parse": _number_within(0, 1e9), "expected": "a number of 0 or more"}
    return field(default=default, metadata=metadata)


def _duration(default: int) -> Any:
    expected = "a duration like 15s, 5m, 1h or 0"
    return field(default=default, metadata={"parse": parse_duration, "expected": expected})


@dataclass(frozen=True)
class Thresholds:
    """Limits of the alert rules; the defaults are the plan's.

    Args:
        memory_percent: of a container's limit, above which it is about to be killed.
        memory_for_s: seconds it must stay there.
        service_down_for_s: seconds without an answer.
        cost_usd: US dollars a user may cost a UTC day before someone is told.
        budget_percent: of a user's budget.
        error_percent: of a service's requests answered 5xx.
        error_min_requests: requests in 5 minutes below which no rate is worth a notice.
        error_for_s: seconds the rate must stay there.
        restarts: unasked restarts in 10 minutes that are still all right.
        unhealthy_for_s: seconds a health check must fail.
        error_lines: error lines in 5 minutes that are still all right.
        error_lines_ratio: times the service's own rate of the last day.
        error_lines_for_s: seconds the burst must last.
        disk_percent: of a file system's space.
        disk_hours: look this many hours ahead for a full one.
        disk_for_s: seconds either must hold.
        queue_depth: waiting dispatches that are still all right.
        queue_for_s: seconds the backlog must last.
        quota_rejections: refused calls of one user in 5 minutes that are still all right.
    """

    memory_percent: float = _percent(90)
    memory_for_s: int = _duration(300)
    service_down_for_s: int = _duration(15)
    cost_usd: float = _amount(10)
    budget_percent: float = _percent(90)
    error_percent: float = _percent(5, least=0.1)
    error_min_requests: float = _amount(20)
    error_for_s: int = _duration(300)
    restarts: float = _amount(3)
    unhealthy_for_s: int = _duration(60)
    error_lines: float = _amount(20)
    error_lines_ratio: float = _amount(5)
    error_lines_for_s: int = _duration(300)
    disk_percent: float = _percent(85)
    disk_hours: float = _amount(24)
    disk_for_s: int = _duration(300)
    queue_depth: float = _amount(10)
    queue_for_s: int = _duration(300)
    quota_rejections: float = _amount(20)

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Thresholds:
        """Read ``TELEMETRY_ALERT_*``; what is unset or empty keeps its default.

        Raises:
            ConfigError: a value isn't what its setting takes.
            TelemetryError: a variable of that prefix names no setting.
        """
        known = environment_keys()
        refuse_misspelt(environ, (PREFIX,), (*known, *NOTIFICATION_KEYS))
        values: dict[str, float | int] = {}
        for key, name in known.items():
            text = environ.get(key, "").strip()
            if not text:
                continue
            metadata = next(f.metadata for f in fields(cls) if f.name == name)
            try:
                values[name] = metadata["parse"](text)
            except ValueError:
                raise ConfigError(key, text, metadata["expected"]) from None
        return cls(**values)  # type: ignore[arg-type]  # each value comes from its field's parser


def refuse_misspelt(
    environ: Mapping[str, str], prefixes: tuple[str, ...], known: Collection[str]
) -> None:
    """Fail for a variable with one of the prefixes that names no setting.

    Raises:
        TelemetryError: there is one; the remedy names the setting that was meant, if it is near.
    """
    for key in sorted(environ):
        if key.startswith(prefixes) and key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            raise TelemetryError(
                f"{key} is not a setting",
                remedy=f"did you mean {near[0]}?" if near else "docs/alerting.md lists them",
                exit_code=78,
            )


def environment_keys() -> dict[str, str]:
    """Environment variable to field name, in the order of the fields."""
    return {PREFIX + f.name.removesuffix("_s").upper(): f.name for f in fields(Thresholds)}
