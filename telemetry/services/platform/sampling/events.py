"""Container events: parsed from Docker's, or derived from a change that no event reported."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from telemetry.services.platform.sampling.timestamps import to_ns
from telemetry.services.platform.state.desired import HANDLE_LABEL, ContainerEvent
from telemetry.services.platform.state.observed import ContainerState


def parse_event(raw: Mapping[str, Any]) -> ContainerEvent:
    """Parse an event as Docker's API gives it."""
    attributes = raw["Actor"]["Attributes"]
    action, _, detail = raw["Action"].partition(": ")
    exit_code = attributes.get("exitCode") if action == "die" else None
    return ContainerEvent(
        attributes[HANDLE_LABEL],
        raw["Actor"]["ID"],
        action,
        int(raw["timeNano"]),
        int(exit_code) if exit_code else None,
        attributes.get("signal", "") if action == "kill" else detail,
    )


def missed_events(
    before: ContainerState | None, now: ContainerState, reported_ns: Mapping[str, int]
) -> list[ContainerEvent]:
    """Return the events that lead from one state to another and were not reported.

    Args:
        before: the state shown until now, maybe of another container of the handle.
        now: the present state.
        reported_ns: when each action was last reported, Unix nanoseconds. An event may have
            been reported although the engine was gone before the container could be inspected.
    """
    if before is not None and before.id != now.id:
        before = None
    events = []

    def add(action: str, **fields: Any) -> None:
        events.append(ContainerEvent(now.handle, now.id, action, time.time_ns(), **fields))

    same_run = before is not None and before.started_at == now.started_at
    died = before is not None and before.pid and not (same_run and now.pid)
    if before is not None and died and reported_ns.get("die", 0) < to_ns(before.started_at):
        add("die", exit_code=now.exit_code if same_run else None)
    if now.pid and not same_run and reported_ns.get("start", 0) < to_ns(now.started_at):
        add("start")
    if before is not None and now.health and now.health != before.health:
        add("health_status", detail=now.health)
    return events
