"""Prepared control groups and process folders, with values of real containers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from telemetry.services.platform.state.observed import ContainerState

NET_DEV = """\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo \
colls carrier compressed
    lo:   99999     100    0    0    0     0          0         0    99999     100    0    0    0 \
    0       0          0
  eth0: {receive}      15    0    0    0     0          0         0 {transmit}       9    0    0 \
   0     0       0          0
"""
# Of a container with 64 MiB on Linux 6.18, shortened.
STAT_V1 = """\
cache 12288000
rss 4198400
mapped_file 0
inactive_anon 0
active_anon 4198400
inactive_file 999
active_file 8192000
hierarchical_memory_limit 67108864
total_cache 12288000
total_rss 4198400
total_inactive_file {inactive}
total_active_file 8192000
"""
STAT_V2 = """\
anon 4198400
file 12288000
kernel 589824
inactive_anon 4194304
active_anon 4096
inactive_file {inactive}
active_file 8192000
workingset_refault_file 0
"""


def container_id(number: int) -> str:
    """Return a full id."""
    return f"{number:064x}"


@dataclass
class Tree:
    """A prepared tree of a machine's files.

    Args:
        root: with ``cgroup`` and ``proc`` in it.
        version: of the control groups.
        driver: Docker's cgroup driver.
    """

    root: Path
    version: Literal[1, 2] = 1
    driver: Literal["cgroupfs", "systemd"] = "cgroupfs"

    @property
    def cgroup(self) -> Path:
        return self.root / "cgroup"

    @property
    def proc(self) -> Path:
        return self.root / "proc"

    def path(self, id: str) -> str:
        """Return a container's path below the control groups' root."""
        return f"/docker/{id}" if self.driver == "cgroupfs" else f"/system.slice/docker-{id}.scope"

    def add(self, number: int, pid: int = 0, **values: int | str | None) -> ContainerState:
        """Add a running container; ``values`` as for `set`."""
        id, pid = container_id(number), pid or 1000 + number
        began = "2026-02-03T04:05:06.789012345Z"
        state = ContainerState(f"user-{number}", id, state="running", pid=pid, started_at=began)
        process = self.proc / str(pid)
        (process / "net").mkdir(parents=True, exist_ok=True)
        path = self.path(id)
        lines = [f"0::{path}"]
        if self.version == 1:
            lines = [f"9:name=systemd:{path}", f"4:memory:{path}", f"2:cpuacct:{path}", "0::/"]
        (process / "cgroup").write_text("".join(f"{line}\n" for line in lines))
        self.set(state, **values)
        return state

    def set(
        self,
        state: ContainerState,
        *,
        cpu_ns: int = 1_000_000_000,
        used: int = 17_076_224,
        inactive: int = 4_096_000,
        limit: int | None = 67_108_864,
        receive: int = 1266,
        transmit: int = 726,
        oom_kills: int = 0,
    ) -> None:
        """Set the values in a container's files."""
        path = self.path(state.id)
        if self.version == 1:
            memory = f"memory{path}/memory"
            self._write(f"cpuacct{path}/cpuacct.usage", f"{cpu_ns}\n")
            self._write(f"{memory}.usage_in_bytes", f"{used}\n")
            self._write(f"{memory}.stat", STAT_V1.format(inactive=inactive))
            self._write(f"{memory}.limit_in_bytes", f"{limit or 9223372036854771712}\n")
            oom = f"oom_kill_disable 0\nunder_oom 0\noom_kill {oom_kills}\n"
            self._write(f"{memory}.oom_control", oom)
        else:
            folder = path.removeprefix("/")
            cpu = f"usage_usec {cpu_ns // 1000}\nuser_usec 1\nsystem_usec 1\n"
            self._write(f"{folder}/cpu.stat", cpu)
            self._write(f"{folder}/memory.current", f"{used}\n")
            self._write(f"{folder}/memory.stat", STAT_V2.format(inactive=inactive))
            self._write(f"{folder}/memory.max", f"{limit or 'max'}\n")
            events = f"low 0\nhigh 0\nmax 7\noom {oom_kills}\noom_kill {oom_kills}\n"
            self._write(f"{folder}/memory.events", events)
        net = NET_DEV.format(receive=receive, transmit=transmit)
        (self.proc / str(state.pid) / "net/dev").write_text(net)

    def _write(self, path: str, text: str) -> None:
        file = self.cgroup / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def remove(self, state: ContainerState) -> None:
        """Remove the control groups of a container that ended."""
        path = self.path(state.id).removeprefix("/")
        for folder in [f"cpuacct/{path}", f"memory/{path}"] if self.version == 1 else [path]:
            for file in (self.cgroup / folder).iterdir():
                file.unlink()
            (self.cgroup / folder).rmdir()


STATS: Mapping[str, object] = {
    "read": "2026-11-25T15:34:10.123456789Z",
    "cpu_stats": {"cpu_usage": {"total_usage": 2_500_000_000}, "online_cpus": 2},
    "memory_stats": {
        "usage": 17_076_224,
        "limit": 67_108_864,
        "stats": {"inactive_file": 999, "total_inactive_file": 4_096_000},
    },
    "networks": {
        "eth0": {"rx_bytes": 1000, "tx_bytes": 700},
        "eth1": {"rx_bytes": 266, "tx_bytes": 26},
    },
}
"""An engine's answer about a running container, on control groups version 1; shortened."""
