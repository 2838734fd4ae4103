"""Count restarts and OOM kills of each handle; the totals never decrease.

Docker's own restart count starts from 0 again when a user starts the container; the kernel's OOM
kill count is lost with the control group, and Docker's events are lost with its daemon. Each
source adds what it has beyond the known total, and the desired state keeps the totals across
restarts of this process.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace

from telemetry.services.platform.sampling.timestamps import to_ns
from telemetry.services.platform.state.desired import DesiredState, Totals


@dataclass
class _OOM:
    """An OOM kill event of Docker's: its time, and whether it added to the total."""

    time_ns: int
    added: bool


@dataclass
class _Count:
    totals: Totals
    before: int
    """OOM kills of the present run that an earlier process counted."""
    events: list[_OOM] = field(default_factory=list)
    """Of the present run, and of a run that inspect has not shown yet."""


class TotalsCounter:
    """Counts by handle. Thread-safe.

    Args:
        desired: stores the totals.
    """

    def __init__(self, desired: DesiredState) -> None:
        self._desired = desired
        self._lock = threading.Lock()
        self._counts: dict[str, _Count] = {}

    def totals(self, handle: str) -> Totals:
        """Return the totals so far."""
        with self._lock:
            return self._count(handle).totals

    def count_inspect(self, handle: str, run: str, docker_restarts: int, oom_killed: bool) -> None:
        """Count what an inspect of a container shows.

        Args:
            handle: its handle.
            run: start of its present or last run, as Docker writes it.
            docker_restarts: restarts by its restart policy, counted by the engine.
            oom_killed: whether that run ended because memory ran out.
        """
        with self._lock:
            count = self._count(handle)
            if count.totals.run != run:
                began_ns = to_ns(run)
                count.before = 0
                count.events = [event for event in count.events if event.time_ns >= began_ns]
                added = sum(event.added for event in count.events)
                self._set(handle, replace(count.totals, run=run, run_oom_kills=added))
                self._raise_oom_kills(handle, len(count.events))
            before = count.totals.docker_restarts
            # Lower if a user's start was missed, or if it is another container's count.
            more = docker_restarts - before if docker_restarts >= before else docker_restarts
            restarts = count.totals.restarts + more
            self._set(
                handle, replace(count.totals, restarts=restarts, docker_restarts=docker_restarts)
            )
            if oom_killed:
                self._raise_oom_kills(handle, 1)

    def reset_docker_restarts(self, handle: str) -> None:
        """Expect Docker's restart count to start from 0: a user started an exited container."""
        with self._lock:
            self._set(handle, replace(self._count(handle).totals, docker_restarts=0))

    def count_oom_event(self, handle: str, time_ns: int) -> None:
        """Count an OOM kill that the engine reported, at a time by its clock."""
        with self._lock:
            count = self._count(handle)
            added = self._raise_oom_kills(handle, count.before + len(count.events) + 1)
            count.events.append(_OOM(time_ns, added))

    def count_kernel_oom_kills(self, handle: str, run: str, oom_kills: int) -> None:
        """Count OOM kills by the kernel's count of a run."""
        with self._lock:
            if self._count(handle).totals.run == run:
                self._raise_oom_kills(handle, oom_kills)

    def forget(self, handle: str) -> None:
        """Forget a handle; its container is gone."""
        with self._lock:
            self._counts.pop(handle, None)

    def _raise_oom_kills(self, handle: str, in_run: int) -> bool:
        """Raise the present run's OOM kills to ``in_run``; returns whether that added any."""
        totals = self._counts[handle].totals
        more = in_run - totals.run_oom_kills
        if more > 0:
            kills = totals.oom_kills + more
            self._set(handle, replace(totals, oom_kills=kills, run_oom_kills=in_run))
        return more > 0

    def _count(self, handle: str) -> _Count:
        found = self._counts.get(handle)
        if found is None:
            totals = self._desired.totals(handle)
            found = self._counts[handle] = _Count(totals, totals.run_oom_kills)
        return found

    def _set(self, handle: str, totals: Totals) -> None:
        count = self._counts[handle]
        if totals != count.totals:
            count.totals = totals
            self._desired.save_totals(handle, totals)
