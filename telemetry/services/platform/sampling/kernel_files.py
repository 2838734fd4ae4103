"""Readings from the kernel's files, in less than 0.1 ms a container."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from telemetry.services.platform.sampling.cgroup import Cgroup, Cgroups
from telemetry.services.platform.sampling.reading import Reading, Unreadable, Vanished
from telemetry.services.platform.state.observed import ContainerState

_CHUNK = 1 << 16


@dataclass(frozen=True, slots=True)
class _Place:
    """The files of one run of a container."""

    run: tuple[int, str]
    cgroup: Cgroup
    network: str


class KernelFiles:
    """Reads what containers of this machine use.

    Args:
        cgroups: where control groups are mounted.
        proc: where processes are.
        clock: monotonic, ns.
    """

    def __init__(
        self,
        cgroups: Path = Path("/sys/fs/cgroup"),
        proc: Path = Path("/proc"),
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._cgroups = Cgroups(cgroups, proc)
        self._proc = str(proc)
        self._clock = clock
        self._places: dict[str, _Place] = {}
        pages = os.sysconf("SC_PHYS_PAGES")
        self._machine_bytes = pages * os.sysconf("SC_PAGE_SIZE")

    def read(self, state: ContainerState) -> Reading:
        """Read what a container uses now.

        Args:
            state: a running one, as last seen.

        Raises:
            Vanished: it has ended.
            Unreadable: its files are not on this machine.
        """
        place = self._places.get(state.id)
        if place is None or place.run != (state.pid, state.started_at):
            place = self._places[state.id] = self._find(state)
        try:
            usage = place.cgroup.usage()
            # Close to the read of the CPU time, so that a delay between two files matters little.
            taken_ns = self._clock()
            received, sent = _network(place.network) if place.network else (None, None)
        except (OSError, ValueError) as error:
            # A group that is being removed may answer ENODEV, or an empty file.
            raise Vanished(str(error)) from error
        limit = usage.memory_limit_bytes
        return Reading(
            "files",
            taken_ns,
            usage.cpu_ns,
            usage.memory_bytes,
            self._machine_bytes if limit is None else min(limit, self._machine_bytes),
            received,
            sent,
            usage.oom_kills,
        )

    def has_ended(self, state: ContainerState) -> bool:
        """Tell whether a container read before has ended: its group or first process is gone.

        Any other read error, such as too many open files, is not a sign of it."""
        place = self._places.get(state.id)
        if place is None or place.run != (state.pid, state.started_at):
            return False
        return not place.cgroup.exists() or bool(
            place.network and not os.path.exists(place.network)
        )

    def keep(self, ids: Collection[str]) -> None:
        """Forget all other containers."""
        self._places = {id: place for id, place in self._places.items() if id in ids}

    def _find(self, state: ContainerState) -> _Place:
        cgroup = self._cgroups.find(state.id, state.pid)
        if cgroup is None:
            raise Unreadable(f"no control group of {state.id} for process {state.pid}")
        network = f"{self._proc}/{state.pid}/net/dev"
        if not os.path.exists(network) or state.host_network or self._is_hosts(state.pid):
            network = ""
        return _Place((state.pid, state.started_at), cgroup, network)

    def _is_hosts(self, pid: int) -> bool:
        """Tell whether it shares the machine's network through another container.

        Without permission to look, the answer is no."""
        try:
            own = os.readlink(f"{self._proc}/{pid}/ns/net")
            return own == os.readlink(f"{self._proc}/1/ns/net")
        except OSError:
            return False


def _network(path: str) -> tuple[int | None, int | None]:
    """Read bytes received and sent over all interfaces but the loopback; None if there is none."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        text = chunk = os.read(descriptor, _CHUNK)
        while chunk:  # one page at a time if there are many interfaces
            chunk = os.read(descriptor, _CHUNK)
            text += chunk
    finally:
        os.close(descriptor)
    received = sent = 0
    any_found = False
    for line in text.splitlines()[2:]:  # two header lines
        name, _, numbers = line.partition(b":")
        if name.strip() != b"lo":
            fields = numbers.split()
            received += int(fields[0])
            sent += int(fields[8])
            any_found = True
    return (received, sent) if any_found else (None, None)
