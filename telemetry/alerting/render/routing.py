"""When notifications go out, the same for Alertmanager and Grafana."""

from __future__ import annotations

from dataclasses import dataclass

RECEIVER = "telemetry"
QUIET_HOURS = "quiet-hours"


@dataclass(frozen=True)
class Timing:
    """How alerts of one severity are gathered into notifications.

    Args:
        group_by: labels whose alerts share a notification; ``...`` is every label, so each
            alert is alone.
        group_wait: how long the first alert of a group waits for others.
        group_interval: how long a change to the group waits; a resolved notice too.
        repeat_interval: when to remind of what still fires.
    """

    group_by: tuple[str, ...]
    group_wait: str
    group_interval: str
    repeat_interval: str = "4h"


# Alone and at once. One that fired before waits out the interval, even long after it was resolved:
# Alertmanager forgets a group only at the next half minute.
CRITICAL = Timing(("...",), "0s", "1s")
WARNING = Timing(("alertname", "handle", "user_id", "job", "service_name"), "1m", "1m")
# A data source that fails makes every rule fail: one notice, not fifteen (Grafana only).
DATASOURCE = Timing(("alertname", "datasource_uid"), "10s", "1m")
