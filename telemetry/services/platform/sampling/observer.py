"""Update the observed state from inspect, and choose which container of a handle is shown."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from telemetry.services.platform.sampling.inspector import Inspected, Inspector
from telemetry.services.platform.sampling.metrics import ContainerSeries
from telemetry.services.platform.sampling.timestamps import to_ns
from telemetry.services.platform.sampling.totals import TotalsCounter
from telemetry.services.platform.state.desired import DesiredState
from telemetry.services.platform.state.observed import ContainerState, ObservedState, from_inspect

_log = logging.getLogger(__name__)

Change = tuple[ContainerState | None, ContainerState]
"""The state that was shown, and the one that is shown now."""


@dataclass
class KnownContainer:
    """A container that Docker has.

    Args:
        handle: its handle.
        created_ns: Unix nanoseconds.
        finished_ns: end of its last run, 0 before the first.
        asked_to_end: it got a signal after which a program may end itself.
        reported_ns: when the engine last reported each action, Unix nanoseconds.
    """

    handle: str
    created_ns: int = 0
    finished_ns: int = 0
    asked_to_end: bool = False
    reported_ns: dict[str, int] = field(default_factory=dict)


class Observer:
    """Keeps the observed state, series and totals up to date. One thread only.

    Args:
        inspector: asks the engine.
        desired: the desired state.
        observed: the observed state; filled here.
        series: what is exported.
        totals: restarts and OOM kills.
    """

    def __init__(
        self,
        inspector: Inspector,
        desired: DesiredState,
        observed: ObservedState,
        series: ContainerSeries,
        totals: TotalsCounter,
    ) -> None:
        self._inspector = inspector
        self._desired = desired
        self._observed = observed
        self._series = series
        self._totals = totals
        self.known: dict[str, KnownContainer] = {}
        """By id."""

    def know(self, handle: str, id: str) -> KnownContainer:
        """Return what is known of a container, which may be new."""
        return self.known.setdefault(id, KnownContainer(handle))

    def shown(self, handle: str) -> tuple[ContainerState, KnownContainer] | None:
        """Return the container that a handle shows; None if it has none."""
        state = self._observed.get(handle)
        known = self.known.get(state.id) if state is not None else None
        return None if state is None or known is None else (state, known)

    def inspect(self, ids: Sequence[str]) -> list[tuple[str, Change | None]]:
        """Inspect containers and take over what the engine says.

        Returns:
            Each id with its change; None if the container is gone, or another one is shown for
            its handle.
        """
        answers = self._inspector.inspect_all(ids)
        if len(answers) > 1:
            shown = {state.id for state in self._observed.all()}
            # Shown containers first: whether one gives way to another depends on its own present
            # state.
            answers.sort(key=lambda each: (each[0] not in shown, _rank(each[1])))
        return [(id, None if found is None else self._take(id, found)) for id, found in answers]

    def mark_dead(self, state: ContainerState) -> ContainerState | None:
        """Show a container as dead that went down together with the engine.

        Returns:
            Its new state; None if it did not run, or a later state is shown already.
        """
        # Not "exited": restarts by policy would be counted as starts by a user.
        dead = replace(state, state="dead", pid=0)
        if not state.pid or not self._observed.update(dead, time.monotonic()):
            return None
        self._series.set_run(dead, self.know(state.handle, state.id).created_ns)
        return dead

    def remove(self, handle: str, id: str) -> None:
        """Forget a container; if another one of its handle runs, show that one."""
        self.known.pop(id, None)
        self._desired.removed(handle, id)
        self._observed.remove(handle, id)
        others = [other for other, known in self.known.items() if known.handle == handle]
        if not others:
            self._totals.forget(handle)
            self._series.end(handle)
        if self._observed.get(handle) is not None:
            return
        for other, change in self.inspect(others):
            if change is not None and change[1].pid:
                self._desired.started(handle, other)

    def replace_stopped(self, handle: str) -> None:
        """Show another running container of a handle, since somebody stopped the one shown.

        After a crash this would be wrong: it would hide the crash."""
        shown = self._observed.get(handle)
        for id, known in list(self.known.items()):
            if known.handle != handle or (shown is not None and shown.id == id):
                continue
            found = self._inspector.inspect(id)
            if found is not None and found.attrs["State"].get("Pid"):
                self._take(id, found, replaces_shown=True)
                return

    def _take(self, id: str, found: Inspected, *, replaces_shown: bool = False) -> Change | None:
        attrs = found.attrs
        state = from_inspect(attrs)
        known = self.know(state.handle, id)
        known.created_ns = to_ns(attrs["Created"])
        known.finished_ns = to_ns(attrs["State"].get("FinishedAt", ""))
        before = self._observed.get(state.handle)
        is_other = before is not None and before.id != id
        if before is not None and is_other and not replaces_shown and self._stays(before, state):
            if before.pid and state.pid:
                names = (before.name, state.name, state.handle)
                _log.warning(
                    "platform: containers %s and %s both have the handle %s; the first is shown",
                    *names,
                )
            return None
        shown = state
        if not self._observed.update(state, found.asked_at):
            latest = self._observed.get(state.handle)
            if latest is None or latest.id != id:
                return None  # it was removed while the engine answered
            # Another thread asked later; it also has `Reconciler.reconcile` called.
            before = shown = latest
        self._series.set_run(shown, known.created_ns)
        if is_other and shown.pid:
            self._desired.started(shown.handle, id)
        was_exited = before is not None and before.state == "exited"
        if before is not None and was_exited and before.started_at != shown.started_at:
            self._totals.reset_docker_restarts(state.handle)
        restarts = int(attrs.get("RestartCount", 0))
        oom_killed = state.oom_killed and not state.pid
        self._totals.count_inspect(state.handle, state.started_at, restarts, oom_killed)
        return before, shown

    def _stays(self, shown: ContainerState, other: ContainerState) -> bool:
        """Tell whether the shown container of a handle stays shown beside another one.

        It gives way to one started after its end, such as its next version. It stays if the
        other one was started beside it, such as a one-off by `docker compose run`, unless the
        other one was created first."""
        known = self.known.get(shown.id)
        if known is None:
            return False  # it is gone
        if shown.pid and other.pid:
            return known.created_ns <= self.known[other.id].created_ns
        return not other.pid or to_ns(other.started_at) < known.finished_ns


def _rank(found: Inspected | None) -> tuple[bool, int]:
    """Sort key of containers with one handle; the first is shown: of those that run the one
    created first, else the one that ended last."""
    if found is None:
        return True, 0
    state = found.attrs["State"]
    runs = bool(state.get("Pid"))
    return not runs, to_ns(found.attrs["Created"]) if runs else -to_ns(state.get("FinishedAt", ""))
