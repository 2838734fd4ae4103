"""The platform's series of containers: there while they say something, ended at once after."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from telemetry import catalog, metrics
from telemetry.services.platform.sampling.reading import Reading
from telemetry.services.platform.sampling.timestamps import to_ns
from telemetry.services.platform.state.desired import Totals
from telemetry.services.platform.state.observed import RUNS, ContainerState

STATUSES = ("created", "running", "paused", "restarting", "removing", "exited", "dead")
_HEALTH = {"healthy": 1.0, "unhealthy": 0.0}


@dataclass(frozen=True)
class _Run:
    """A container that runs.

    Args:
        id: Docker's id.
        started_at: Docker's time of the start.
        created_ns: since when its OOM kills count, Unix nanoseconds.
    """

    id: str
    started_at: str
    created_ns: int


class Series:
    """All series of the containers of one process. Safe from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._runs: dict[str, _Run] = {}  # by handle
        self._statuses = metrics.gauge(catalog.PLATFORM_CONTAINERS_TOTAL)
        self._up = metrics.gauge(catalog.PLATFORM_CONTAINER_UP)
        self._healthy = metrics.gauge(catalog.PLATFORM_CONTAINER_HEALTHY)
        self._cpu = metrics.gauge(catalog.PLATFORM_CONTAINER_CPU)
        self._memory = metrics.gauge(catalog.PLATFORM_CONTAINER_MEMORY)
        self._limit = metrics.gauge(catalog.PLATFORM_CONTAINER_MEMORY_LIMIT)
        self._receive = metrics.counter(catalog.PLATFORM_CONTAINER_NETWORK_RECEIVE)
        self._transmit = metrics.counter(catalog.PLATFORM_CONTAINER_NETWORK_TRANSMIT)
        self._restarts = metrics.counter(catalog.PLATFORM_CONTAINER_RESTARTS)
        self._oom_kills = metrics.counter(catalog.PLATFORM_CONTAINER_OOM_KILLS)
        self._sampled = (self._cpu, self._memory, self._limit, self._receive, self._transmit)

    def statuses(self, states: Iterable[ContainerState]) -> None:
        """How many containers are in which of Docker's states."""
        found = Counter(state.state for state in states)
        for status in {*STATUSES, *found}:
            self._statuses.set(found[status], {"status": status})

    def sees(self, state: ContainerState, created_ns: int) -> None:
        """A container as the engine described it: samples of it are of what runs now. Before
        anybody is told, and `show` has heard whether it must run: who samples is told, too.

        Args:
            state: as it is.
            created_ns: since when its OOM kills count, Unix nanoseconds.
        """
        run = _Run(state.id, state.started_at, created_ns)
        with self._lock:
            if self._runs.get(state.handle) != run or not _runs(state):
                self._end_samples(state.handle)
            if _runs(state):
                self._runs[state.handle] = run

    def show(self, state: ContainerState, wanted: bool, totals: Totals, created_ns: int) -> None:
        """What a container's state means.

        Args:
            state: as it is.
            wanted: whether it must run.
            totals: its restarts and OOM kills.
            created_ns: since when these count, Unix nanoseconds.
        """
        whose = {"handle": state.handle}
        with self._lock:
            if wanted:
                self._up.set(1.0 if _runs(state) else 0.0, whose)
            else:
                self._up.end(whose)
            if _runs(state) and state.health in _HEALTH:
                self._healthy.set(_HEALTH[state.health], whose)
            else:
                self._healthy.end(whose)
            self._restarts.set_total(totals.restarts, whose, created_ns)
            self._oom_kills.set_total(totals.oom_kills, whose, created_ns)

    def sample(
        self, state: ContainerState, reading: Reading, cpu_percent: float | None, oom_kills: int
    ) -> None:
        """What a running container uses; nothing happens where it has ended meanwhile.

        Args:
            state: as it was when the reading was taken.
            reading: what was read.
            cpu_percent: 100 is one core; None where it can't be said yet.
            oom_kills: in all.
        """
        whose = {"handle": state.handle}
        with self._lock:
            run = self._runs.get(state.handle)
            if run is None or (run.id, run.started_at) != (state.id, state.started_at):
                return
            if cpu_percent is not None:
                self._cpu.set(cpu_percent, whose)
            self._memory.set(reading.memory_bytes, whose)
            self._limit.set(reading.memory_limit_bytes, whose)
            self._oom_kills.set_total(oom_kills, whose, run.created_ns)
            if reading.receive_bytes is not None and reading.transmit_bytes is not None:
                began_ns = to_ns(state.started_at)
                self._receive.set_total(reading.receive_bytes, whose, began_ns)
                self._transmit.set_total(reading.transmit_bytes, whose, began_ns)

    def end(self, handle: str) -> None:
        """The container is gone."""
        whose = {"handle": handle}
        with self._lock:
            for series in (self._up, self._healthy, self._restarts, self._oom_kills):
                series.end(whose)
            self._end_samples(handle)

    def _end_samples(self, handle: str) -> None:
        self._runs.pop(handle, None)
        for series in self._sampled:
            series.end({"handle": handle})


def _runs(state: ContainerState) -> bool:
    return state.state in RUNS
