"""What is meant to be, as the watcher and the sampler need to know it, and as they tell it.

A container with the Docker label ``handle`` is watched. One that the platform made carries
``telemetry.platform`` too, with the id of the platform that made it; one that somebody else
made is adopted.

The app makes one `Engine`, one `Containers` view and one store (a `Desired`), and gives them to
one `sampling.Monitor`, which has ``start()``, ``stop()``, and ``look(handle)`` for when the
desired state changed without Docker having to say anything. A listener is called with every
`ContainerEvent`, after the view has it, in the watcher's thread.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

HANDLE_LABEL = "handle"
PLATFORM_LABEL = "telemetry.platform"
LOGS_LABEL = "telemetry.logs"
"""``otlp`` where what runs inside sends its logs itself: nobody else may send them again."""


@dataclass(frozen=True)
class Totals:
    """Counts of a handle since it was first seen; they outlive the platform's process.

    Args:
        restarts: starts after the first that nobody asked for.
        oom_kills: processes killed because the memory ran out.
        docker_restarts: Docker's own count of restarts when it was last looked at; of
            ``restarts``, what is counted already.
        run: when the container's present or last run began, as Docker writes it.
        run_oom_kills: of ``oom_kills``, those of that run.
    """

    restarts: int = 0
    oom_kills: int = 0
    docker_restarts: int = 0
    run: str = ""
    run_oom_kills: int = 0


@dataclass(frozen=True)
class ContainerEvent:
    """Something Docker said about a watched container.

    Args:
        handle: whose.
        id: the container's id.
        action: Docker's word: create, start, die, oom, stop, kill, destroy, health_status, …
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


class Desired(Protocol):
    """Which containers are to run; quick calls from any thread, none raises."""

    def wanted(self, handle: str) -> bool:
        """Whether it must be running."""
        ...

    def started(self, handle: str, container_id: str) -> None:
        """It runs, whoever started it: from now on it is wanted (and adopted, where unknown)."""
        ...

    def stopped(self, handle: str) -> None:
        """Somebody stopped it on purpose (Docker's ``stop``): not wanted any more.

        A crash, a kill or an OOM is none of that: it stays wanted."""
        ...

    def removed(self, handle: str, container_id: str) -> None:
        """That container is gone for good (Docker's ``destroy``): not wanted, totals dropped.
        Nothing happens where the handle has another container by now."""
        ...

    def totals(self, handle: str) -> Totals:
        """What was saved last; zeros where nothing was."""
        ...

    def save_totals(self, handle: str, totals: Totals) -> None:
        """Keep them."""
        ...
