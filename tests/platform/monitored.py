"""A monitor on a real engine, with its exports and events."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from telemetry import testing
from telemetry.metrics.points import Point
from telemetry.services.platform.sampling import Monitor
from telemetry.services.platform.sampling.reconciler import Listener
from telemetry.services.platform.state.desired import ContainerEvent, Totals
from telemetry.services.platform.state.observed import ContainerState, ObservedState
from telemetry.system.docker_engine import Engine
from tests.fixtures.docker import DockerEngine
from tests.fixtures.stack import until


class Memory:
    """A desired state in memory."""

    def __init__(self) -> None:
        self.wants: set[str] = set()
        self.ids: dict[str, str] = {}
        self.kept: dict[str, Totals] = {}

    def wanted(self, handle: str) -> bool:
        return handle in self.wants

    def started(self, handle: str, container_id: str) -> None:
        self.wants.add(handle)
        self.ids[handle] = container_id

    def stopped(self, handle: str) -> None:
        self.wants.discard(handle)

    def removed(self, handle: str, container_id: str) -> None:
        if self.ids.get(handle, container_id) == container_id:
            self.wants.discard(handle)
            self.kept.pop(handle, None)

    def totals(self, handle: str) -> Totals:
        return self.kept.get(handle, Totals())

    def save_totals(self, handle: str, totals: Totals) -> None:
        self.kept[handle] = totals


class Monitored:
    """A running monitor.

    Args:
        docker: the engine it watches.
        recorded: its series.
        desired: the desired state; a new one if none is given.
        listeners: called with every event.
    """

    def __init__(
        self,
        docker: DockerEngine,
        recorded: testing.Recorded,
        desired: Memory | None = None,
        listeners: Sequence[Listener] = (),
    ) -> None:
        self.docker = docker
        self.recorded = recorded
        self.desired = desired or Memory()
        self.observed = ObservedState()
        self.events: list[ContainerEvent] = []
        self.ups: list[tuple[str, float | None]] = []
        """Every change of ``platform_container_up`` that was ready to be exported."""
        self.exports = 0
        engine = Engine({"DOCKER_HOST": docker.base_url})
        self.monitor = Monitor(
            engine, self.desired, self.observed, [self.events.append, *listeners], interval_s=3600
        )
        self.monitor.watcher._export = self._export
        self.reconciled = threading.Event()
        """Whether all containers were reconciled once."""
        reconciler = self.monitor.watcher._reconciler
        reconcile_all = reconciler.reconcile_all

        def reconcile_all_and_tell(remembers: bool) -> dict[str, float]:
            delays_s = reconcile_all(remembers)
            self.reconciled.set()
            return delays_s

        reconciler.reconcile_all = reconcile_all_and_tell  # type: ignore[method-assign]

    def _export(self) -> None:
        self.exports += 1
        for handle in sorted(
            {e.handle for e in self.events} | {s.handle for s in self.observed.all()}
        ):
            up = self.up(handle)
            last = [value for name, value in self.ups if name == handle][-1:]
            if last != [up]:
                self.ups.append((handle, up))

    def run(self, handle: str, *command: str, **options: Any) -> Any:
        """Start a container and wait until its series is 1."""
        container = self.docker.run(handle, *command, **options)
        self.wait_up(handle, 1)
        return container

    def up(self, handle: str) -> float | None:
        """Return the series, None if it has ended."""
        return self.recorded.value("platform_container_up", handle=handle)

    def wait_up(self, handle: str, value: float | None) -> None:
        """Wait until the series has this value."""
        until(lambda: self.up(handle) == value, 30, f"{handle} up {value}, is {self.up(handle)}")

    def wait_statuses(self, **wanted: float) -> None:
        """Wait until these numbers of containers are in these of Docker's states."""
        total = "platform_containers_total"
        until(
            lambda: all(self.recorded.value(total, status=s) == n for s, n in wanted.items()),
            what=f"{total} {wanted}",
        )

    def series_of(self, handle: str) -> list[Point]:
        """Return all series of a container."""
        return [p for p in self.recorded.points() if ("handle", handle) in p.key[1]]

    def value(self, name: str, handle: str) -> float | None:
        """Return a container's series by the end of its name."""
        return self.recorded.value(f"platform_container_{name}", handle=handle)

    def state(self, handle: str) -> ContainerState:
        """Return the observed state of a handle."""
        found = self.observed.get(handle)
        assert found is not None, f"{handle} is not observed"
        return found

    def shown(self, handle: str) -> str:
        """Return the id of the container shown for a handle, "" if there is none."""
        found = self.observed.get(handle)
        return found.id if found else ""

    def actions(self, handle: str) -> list[str]:
        """Return the actions of a container's events, in order."""
        return [event.action for event in self.events if event.handle == handle]


@contextmanager
def monitored(
    docker: DockerEngine,
    desired: Memory | None = None,
    *,
    listeners: Sequence[Listener] = (),
    connected: bool = True,
) -> Iterator[Monitored]:
    """Run a monitor. Wait until it reads the engine's events and has reconciled all containers,
    since it derives events for those it sees for the first time."""
    with testing.isolated() as recorded:
        found = Monitored(docker, recorded, desired, listeners)
        found.monitor.start()
        try:
            if connected:
                until(lambda: found.monitor.watcher._stream._open)
                assert found.reconciled.wait(30)
            yield found
        finally:
            found.monitor.stop()
