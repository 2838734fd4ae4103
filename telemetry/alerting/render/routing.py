"""Grouping and timing of notifications, common to Alertmanager and Grafana."""

from __future__ import annotations

from dataclasses import dataclass

RECEIVER = "telemetry"
QUIET_HOURS = "quiet-hours"


@dataclass(frozen=True)
class Timing:
    """Grouping of one severity's alerts into notifications.

    Args:
        group_by: alerts with equal values of these labels share a notification; ``...`` means all
            labels, so that each alert has its own.
        group_wait: time that the first alert of a group waits for others.
        group_interval: time that a change of the group waits, also when an alert is resolved.
        repeat_interval: time between reminders of alerts that still fire.
    """

    group_by: tuple[str, ...]
    group_wait: str
    group_interval: str
    repeat_interval: str = "4h"


# Each alone and immediately. If the alert fires again, it waits for the interval, even some time
# after it was resolved: Alertmanager removes old groups every half minute.
CRITICAL = Timing(("...",), "0s", "1s")
WARNING = Timing(("alertname", "handle", "user_id", "job", "service_name"), "1m", "1m")
# A failing data source makes every rule fail: send one notice, not fifteen (Grafana only).
DATASOURCE = Timing(("alertname", "datasource_uid"), "10s", "1m")
