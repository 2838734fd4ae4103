"""The observed state: filled by the watcher and the sampler, read by API and admin page."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from telemetry.services.platform.state.desired import HANDLE_LABEL, PLATFORM_LABEL

SAMPLED = ("cpu_percent", "memory_bytes", "memory_limit_bytes", "receive_bytes", "transmit_bytes")
# Removed containers remembered; late answers about one arrive long before it is forgotten.
MAX_REMOVED = 1024


@dataclass(frozen=True)
class ContainerState:
    """One container as last seen.

    Args:
        handle: its handle.
        id: Docker's full id.
        name: Docker's name, without the slash.
        image: as requested, e.g. ``busybox:stable``.
        state: Docker's word: created, running, paused, restarting, exited, dead.
        health: healthy, unhealthy, starting; "" without a health check.
        pid: of its first process on this machine; 0 if it does not run.
        started_at: Docker's time of the last start, RFC 3339; "" before the first.
        exit_code: of the last run; None while it runs or before the first.
        oom_killed: whether the last run ended because memory ran out.
        cpu_percent: 100 is one core; None before two samples.
        memory_bytes: working set; None before a sample.
        memory_limit_bytes: None if it has no limit, or before a sample.
        receive_bytes: network bytes received since its start; None if it has no network.
        transmit_bytes: likewise sent.
        provisioned: created by a platform, not adopted.
        host_network: shares the machine's network, whose counters are not its own.
    """

    handle: str
    id: str
    name: str = ""
    image: str = ""
    state: str = "created"
    health: str = ""
    pid: int = 0
    started_at: str = ""
    exit_code: int | None = None
    oom_killed: bool = False
    cpu_percent: float | None = None
    memory_bytes: int | None = None
    memory_limit_bytes: int | None = None
    receive_bytes: int | None = None
    transmit_bytes: int | None = None
    provisioned: bool = False
    host_network: bool = False


def from_inspect(attrs: Mapping[str, Any]) -> ContainerState:
    """Convert the answer of Docker's inspect; samples are None."""
    state, labels = attrs["State"], attrs["Config"].get("Labels") or {}
    started = state.get("StartedAt", "")
    ran = not started.startswith("0001")  # Docker's word for never
    running = bool(state.get("Pid"))  # Docker also says Running while a restart is pending
    return ContainerState(
        handle=labels[HANDLE_LABEL],
        id=attrs["Id"],
        name=attrs["Name"].removeprefix("/"),
        image=attrs["Config"]["Image"],
        state=state["Status"],
        health=(state.get("Health") or {}).get("Status", "").replace("none", ""),
        pid=state.get("Pid", 0),
        started_at=started if ran else "",
        exit_code=state.get("ExitCode") if ran and not running else None,
        oom_killed=bool(state.get("OOMKilled")),
        memory_limit_bytes=attrs["HostConfig"].get("Memory") or None,
        provisioned=PLATFORM_LABEL in labels,
        host_network=attrs["HostConfig"].get("NetworkMode") == "host",
    )


class ObservedState:
    """The containers by handle. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._states: dict[str, ContainerState] = {}
        self._asked: dict[str, float] = {}
        self._removed: deque[str] = deque(maxlen=MAX_REMOVED)

    def get(self, handle: str) -> ContainerState | None:
        """Return a handle's container, or None."""
        return self._states.get(handle)

    def all(self) -> list[ContainerState]:
        """Return all containers, sorted by handle."""
        with self._lock:
            return [self._states[handle] for handle in sorted(self._states)]

    def update(self, state: ContainerState, asked_at: float) -> bool:
        """Store Docker's answer about a container; samples of the same run are kept.

        Of two threads that ask, the one that asked first may be the last to store its answer.

        Args:
            state: the answer.
            asked_at: `time.monotonic` before Docker was asked.

        Returns:
            Whether it was stored. It is not if a later answer about the same container is there,
            or the container is gone.
        """
        with self._lock:
            if state.id in self._removed:
                return False
            shown = self._states.get(state.handle)
            if shown is not None and shown.id == state.id:
                if asked_at < self._asked[state.handle]:
                    return False
                if state.pid and (state.pid, state.started_at) == (shown.pid, shown.started_at):
                    state = replace(state, **{name: getattr(shown, name) for name in SAMPLED})
            self._states[state.handle], self._asked[state.handle] = state, asked_at
            return True

    def update_sample(self, seen: ContainerState, **fields: Any) -> None:
        """Store a sample of a container; ignored if that run has ended."""
        with self._lock:
            state = self._states.get(seen.handle)
            if state is not None and (state.id, state.pid) == (seen.id, seen.pid):
                self._states[seen.handle] = replace(state, **fields)

    def remove(self, handle: str, container_id: str) -> None:
        """Remove a container; ignored if the handle has another one by now."""
        with self._lock:
            self._removed.append(container_id)
            state = self._states.get(handle)
            if state is not None and state.id == container_id:
                del self._states[handle], self._asked[handle]
