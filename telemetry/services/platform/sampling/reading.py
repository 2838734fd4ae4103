"""One reading of a running container's use, whatever its source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Reading:
    """What a container has used so far.

    Args:
        source: where it was read; times of different sources are not comparable.
        taken_ns: when, by the source's own clock.
        cpu_ns: CPU time since the container's start.
        memory_bytes: working set: memory used, less page cache that can be reclaimed at once.
        memory_limit_bytes: its limit; the machine's memory if it has none.
        receive_bytes: network bytes received since its start; None if it has no network of its own.
        transmit_bytes: likewise sent.
        oom_kills: processes killed because memory ran out, since its start; None if unknown.
    """

    source: Literal["files", "engine"]
    taken_ns: int
    cpu_ns: int
    memory_bytes: int
    memory_limit_bytes: int
    receive_bytes: int | None = None
    transmit_bytes: int | None = None
    oom_kills: int | None = None

    def cpu_percent(self, before: Reading | None) -> float | None:
        """Return CPU use since ``before``, 100 is one core; None if they are not comparable."""
        if before is None or before.source != self.source or self.cpu_ns < before.cpu_ns:
            return None
        passed_ns = self.taken_ns - before.taken_ns
        return (self.cpu_ns - before.cpu_ns) / passed_ns * 100 if passed_ns > 0 else None


class Vanished(Exception):
    """The container ended while it was being read."""


class Unreadable(Exception):
    """Its files are missing or not readable; ask the engine instead."""
