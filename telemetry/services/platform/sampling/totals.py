"""Restarts and OOM kills of each handle, which never go back.

Docker's own count of restarts begins anew at a start by hand; the kernel's count of OOM kills
dies with the control group, and Docker's events are lost with its daemon. Each is taken for
what it adds to what is known, and the sum is kept where it outlives this process.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace

from telemetry.services.platform.sampling.timestamps import to_ns
from telemetry.services.platform.state.desired import Desired, Totals


@dataclass
class _OOM:
    """Docker's event of an OOM kill: when, and whether it added to the total."""

    time_ns: int
    added: bool


@dataclass
class _Count:
    totals: Totals
    before: int
    """OOM kills of the present run that a process before this one knew of."""
    events: list[_OOM] = field(default_factory=list)
    """Of the present run, and of one that is not known yet."""


class Counts:
    """The totals by handle. Safe from any thread.

    Args:
        desired: keeps them.
    """

    def __init__(self, desired: Desired) -> None:
        self._desired = desired
        self._lock = threading.Lock()
        self._counts: dict[str, _Count] = {}

    def totals(self, handle: str) -> Totals:
        """As counted so far."""
        with self._lock:
            return self._count(handle).totals

    def inspected(self, handle: str, run: str, docker_restarts: int, oom_killed: bool) -> None:
        """The engine described the container.

        Args:
            handle: whose.
            run: when its present or last run began, in Docker's words.
            docker_restarts: restarts by its restart policy, counted by the engine.
            oom_killed: that run ended for want of memory.
        """
        with self._lock:
            count = self._count(handle)
            if count.totals.run != run:
                began_ns = to_ns(run)
                count.before = 0
                count.events = [event for event in count.events if event.time_ns >= began_ns]
                added = sum(event.added for event in count.events)
                self._set(handle, replace(count.totals, run=run, run_oom_kills=added))
                self._killed(handle, len(count.events))
            before = count.totals.docker_restarts
            # Lower where a start by hand was missed, or it is another container's count.
            more = docker_restarts - before if docker_restarts >= before else docker_restarts
            restarts = count.totals.restarts + more
            self._set(
                handle, replace(count.totals, restarts=restarts, docker_restarts=docker_restarts)
            )
            if oom_killed:
                self._killed(handle, 1)

    def started_by_hand(self, handle: str) -> None:
        """It had ended for good and was started: Docker counts its restarts from 0 again."""
        with self._lock:
            self._set(handle, replace(self._count(handle).totals, docker_restarts=0))

    def oom_event(self, handle: str, time_ns: int) -> None:
        """The engine reported an OOM kill, at this time by its clock."""
        with self._lock:
            count = self._count(handle)
            added = self._killed(handle, count.before + len(count.events) + 1)
            count.events.append(_OOM(time_ns, added))

    def sampled(self, handle: str, run: str, oom_kills: int) -> None:
        """The kernel has counted this many OOM kills in that run."""
        with self._lock:
            if self._count(handle).totals.run == run:
                self._killed(handle, oom_kills)

    def forget(self, handle: str) -> None:
        """Its container is gone."""
        with self._lock:
            self._counts.pop(handle, None)

    def _killed(self, handle: str, in_run: int) -> bool:
        """There were so many kills in the present run; whether that is news."""
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
