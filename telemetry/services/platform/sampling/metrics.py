"""The series of containers; each ends as soon as it no longer has a value."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from telemetry import catalog, metrics
from telemetry.services.platform.sampling.reading import Reading
from telemetry.services.platform.sampling.timestamps import to_ns
from telemetry.services.platform.state.desired import Totals
from telemetry.services.platform.state.liveness import is_up, runs
from telemetry.services.platform.state.observed import ContainerState

STATUSES = ("created", "running", "paused", "restarting", "removing", "exited", "dead")
_HEALTH = {"healthy": 1.0, "unhealthy": 0.0}


@dataclass(frozen=True)
class _Run:
    """One run of a container.

    Args:
        id: Docker's id.
        started_at: Docker's time of the start.
        created_ns: start of its OOM kill counter, Unix nanoseconds.
    """

    id: str
    started_at: str
    created_ns: int


class ContainerSeries:
    """All container series of this process. Thread-safe."""

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

    def set_statuses(self, states: Iterable[ContainerState]) -> None:
        """Set the number of containers in each of Docker's states."""
        found = Counter(state.state for state in states)
        for status in {*STATUSES, *found}:
            self._statuses.set(found[status], {"status": status})

    def set_run(self, state: ContainerState, created_ns: int) -> None:
        """Set which run of a handle's container may be sampled.

        Call it before listeners are notified, since the sampler is one of them.

        Args:
            state: the container's state, from inspect.
            created_ns: start of its OOM kill counter, Unix nanoseconds.
        """
        run = _Run(state.id, state.started_at, created_ns)
        with self._lock:
            if self._runs.get(state.handle) != run or not runs(state):
                self._end_samples(state.handle)
            if runs(state):
                self._runs[state.handle] = run

    def set_state(
        self, state: ContainerState, wanted: bool, totals: Totals, created_ns: int
    ) -> None:
        """Set the series that depend on a container's state.

        Args:
            state: the container's state.
            wanted: its desired state: whether it must run.
            totals: its restarts and OOM kills.
            created_ns: start of these counters, Unix nanoseconds.
        """
        labels = {"handle": state.handle}
        with self._lock:
            up = is_up(state, wanted)
            if up is None:
                self._up.end(labels)
            else:
                self._up.set(float(up), labels)
            if runs(state) and state.health in _HEALTH:
                self._healthy.set(_HEALTH[state.health], labels)
            else:
                self._healthy.end(labels)
            self._restarts.set_total(totals.restarts, labels, created_ns)
            self._oom_kills.set_total(totals.oom_kills, labels, created_ns)

    def set_sample(
        self, state: ContainerState, reading: Reading, cpu_percent: float | None, oom_kills: int
    ) -> None:
        """Set what a running container uses; ignored if that run has ended.

        Args:
            state: the container's state when the reading was taken.
            reading: what it uses.
            cpu_percent: 100 is one core; None before a second reading.
            oom_kills: total of the handle.
        """
        labels = {"handle": state.handle}
        with self._lock:
            run = self._runs.get(state.handle)
            if run is None or (run.id, run.started_at) != (state.id, state.started_at):
                return
            if cpu_percent is not None:
                self._cpu.set(cpu_percent, labels)
            self._memory.set(reading.memory_bytes, labels)
            self._limit.set(reading.memory_limit_bytes, labels)
            self._oom_kills.set_total(oom_kills, labels, run.created_ns)
            if reading.receive_bytes is not None and reading.transmit_bytes is not None:
                began_ns = to_ns(state.started_at)
                self._receive.set_total(reading.receive_bytes, labels, began_ns)
                self._transmit.set_total(reading.transmit_bytes, labels, began_ns)

    def end(self, handle: str) -> None:
        """End all series of a handle; its container is gone."""
        labels = {"handle": handle}
        with self._lock:
            for series in (self._up, self._healthy, self._restarts, self._oom_kills):
                series.end(labels)
            self._end_samples(handle)

    def _end_samples(self, handle: str) -> None:
        self._runs.pop(handle, None)
        for series in self._sampled:
            series.end({"handle": handle})
