"""The desired state, as the watcher and the sampler read and change it.

Every container with the Docker label ``handle`` is watched. One that the platform created also
has the label ``telemetry.platform`` with the platform's id; any other one is adopted.

The app creates one `Engine`, one `ObservedState` and one store (a `DesiredState`), and passes
them to one `sampling.Monitor`. After a change of desired state that Docker does not report, call
its ``reconcile(handle)``. A listener is called with every `ContainerEvent`, after the observed
state has it, in the watcher's thread.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

HANDLE_LABEL = "handle"
PLATFORM_LABEL = "telemetry.platform"
LOGS_LABEL = "telemetry.logs"
"""``otlp`` if the program inside sends its logs itself, so that they are not sent twice."""


@dataclass(frozen=True)
class Totals:
    """Counts of a handle since it was first seen, kept across restarts of the platform.

    Args:
        restarts: starts after the first that no user asked for.
        oom_kills: processes killed because the memory ran out.
        docker_restarts: Docker's own restart count at the last inspect; ``restarts`` includes it.
        run: start of the container's present or last run, as Docker writes it.
        run_oom_kills: OOM kills of that run; ``oom_kills`` includes them.
    """

    restarts: int = 0
    oom_kills: int = 0
    docker_restarts: int = 0
    run: str = ""
    run_oom_kills: int = 0


@dataclass(frozen=True)
class ContainerEvent:
    """An event of a watched container.

    Args:
        handle: its handle.
        id: the container's id.
        action: Docker's name of it: create, start, die, oom, stop, kill, destroy, health_status, …
        time_ns: when, Unix nanoseconds.
        exit_code: of a ``die``, else None.
        detail: of a ``health_status``: healthy or unhealthy; of a ``kill``: the signal.
    """

    handle: str
    id: str
    action: str
    time_ns: int
    exit_code: int | None = None
    detail: str = ""


class DesiredState(Protocol):
    """Which containers must run. Its methods are thread-safe and quick; none raises."""

    def wanted(self, handle: str) -> bool:
        """Tell whether a handle's container must be running."""
        ...

    def started(self, handle: str, container_id: str) -> None:
        """Set that it must run, since somebody started it; adopt it if it is unknown."""
        ...

    def stopped(self, handle: str) -> None:
        """Set that it need not run, since somebody stopped it (Docker's ``stop``).

        Crashes, kills and OOM kills don't change the desired state."""
        ...

    def removed(self, handle: str, container_id: str) -> None:
        """Forget a container that was removed (Docker's ``destroy``), with its totals.

        Ignored if the handle has another container by now."""
        ...

    def totals(self, handle: str) -> Totals:
        """Return the totals saved last; zeros if there are none."""
        ...

    def save_totals(self, handle: str, totals: Totals) -> None:
        """Save the totals."""
        ...
