"""Read a container's CPU and memory from its control group, version 1 or 2.

Source: https://docs.kernel.org/admin-guide/cgroup-v1/memory.html,
https://docs.kernel.org/admin-guide/cgroup-v2.html; memory used is computed as by
`docker stats`: https://github.com/docker/cli/blob/master/cli/command/container/stats_helpers.go
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

# Where Docker's two cgroup drivers put a container, for when its first process is not readable.
LAYOUTS = ("docker/{}", "system.slice/docker-{}.scope")
CPU_V1 = ("cpuacct", "cpu,cpuacct", "cpuacct,cpu")


@dataclass(frozen=True, slots=True)
class Usage:
    """The values of a control group's files; see `Reading`. A limit of None means unlimited."""

    cpu_ns: int
    memory_bytes: int
    memory_limit_bytes: int | None
    oom_kills: int | None


class Cgroup(Protocol):
    """One container's control group."""

    def usage(self) -> Usage:
        """Read what it uses now.

        Raises:
            OSError: the files are gone.
        """
        ...

    def exists(self) -> bool:
        """Tell whether it still exists."""
        ...


def read(path: str) -> bytes:
    """Read a small file in one system call: the kernel returns these in one piece."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, 1 << 16)
    finally:
        os.close(descriptor)


def field(text: bytes, name: bytes) -> int | None:
    """Return the number after ``name`` in lines of ``name number``."""
    key = name + b" "
    at = 0 if text.startswith(key) else text.find(b"\n" + key) + 1
    if at == 0 and not text.startswith(key):
        return None
    start = at + len(key)
    end = text.find(b"\n", start)
    return int(text[start : end if end >= 0 else None])


def working_set(used: int, inactive: int | None) -> int:
    return used - inactive if inactive is not None and inactive < used else used


class CgroupV1:
    """Version 1: one folder for each controller.

    Args:
        cpu: the cpuacct folder.
        memory: the memory folder.
    """

    __slots__ = ("_cpu", "_limit", "_oom", "_stat", "_used")

    def __init__(self, cpu: str, memory: str) -> None:
        self._cpu = f"{cpu}/cpuacct.usage"
        self._used = f"{memory}/memory.usage_in_bytes"
        self._stat = f"{memory}/memory.stat"
        self._limit = f"{memory}/memory.limit_in_bytes"
        self._oom = f"{memory}/memory.oom_control"

    def exists(self) -> bool:
        return os.path.exists(self._used)

    def usage(self) -> Usage:
        inactive = field(read(self._stat), b"total_inactive_file")
        return Usage(
            int(read(self._cpu)),
            working_set(int(read(self._used)), inactive),
            int(read(self._limit)),  # unlimited is a huge number here, more than any machine has
            field(read(self._oom), b"oom_kill"),
        )


class CgroupV2:
    """Version 2: one folder for all controllers.

    Args:
        folder: the container's folder.
    """

    __slots__ = ("_cpu", "_events", "_limit", "_stat", "_used")

    def __init__(self, folder: str) -> None:
        self._cpu = f"{folder}/cpu.stat"
        self._used = f"{folder}/memory.current"
        self._stat = f"{folder}/memory.stat"
        self._limit = f"{folder}/memory.max"
        self._events = f"{folder}/memory.events"

    def exists(self) -> bool:
        return os.path.exists(self._used)

    def usage(self) -> Usage:
        inactive = field(read(self._stat), b"inactive_file")
        limit = read(self._limit).strip()
        return Usage(
            (field(read(self._cpu), b"usage_usec") or 0) * 1000,
            working_set(int(read(self._used)), inactive),
            None if limit == b"max" else int(limit),
            field(read(self._events), b"oom_kill"),
        )


class Cgroups:
    """Finds the control groups of containers.

    Args:
        root: where control groups are mounted.
        proc: where procfs is mounted.
    """

    def __init__(self, root: Path, proc: Path) -> None:
        self._root = str(root)
        self._proc = str(proc)

    def find(self, container_id: str, pid: int) -> Cgroup | None:
        """Find a container's control group; None if it is not readable here.

        Args:
            container_id: the full id.
            pid: of its first process; it may belong to another process by now, or be of another
                machine.
        """
        paths = self._of_process(container_id, pid)
        if "memory" in paths and "cpuacct" in paths:
            return self._v1(paths["cpuacct"], paths["memory"])
        if "" in paths and (found := self._v2(paths[""])):
            return found
        for layout in LAYOUTS:
            path = "/" + layout.format(container_id)
            if found := self._v1(path, path) or self._v2(path):
                return found
        return None

    def _of_process(self, container_id: str, pid: int) -> dict[str, str]:
        """Return paths by controller, "" for version 2, down to the container's own group:
        processes inside it may have created further groups below."""
        try:
            lines = read(f"{self._proc}/{pid}/cgroup").decode().splitlines()
        except OSError:
            return {}
        found = {}
        for line in lines:
            _, controllers, path = line.split(":", 2)
            at = path.find(container_id)
            if at >= 0:
                end = path.find("/", at)
                path = path if end < 0 else path[:end]
                found.update(dict.fromkeys(controllers.split(","), path))
        return found

    def _v1(self, cpu_path: str, memory_path: str) -> Cgroup | None:
        memory = f"{self._root}/memory{memory_path}"
        if not os.path.exists(f"{memory}/memory.usage_in_bytes"):
            return None
        for mount in CPU_V1:
            cpu = f"{self._root}/{mount}{cpu_path}"
            if os.path.exists(f"{cpu}/cpuacct.usage"):
                return CgroupV1(cpu, memory)
        return None

    def _v2(self, path: str) -> Cgroup | None:
        folder = f"{self._root}{path}"
        # Without the memory controller there is no memory.current, but still cpu.stat.
        return CgroupV2(folder) if os.path.exists(f"{folder}/memory.current") else None
