"""Reconcile desired and observed state: apply events, confirm them by inspect, notify."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from telemetry.services.platform.sampling.events import missed_events, parse_event
from telemetry.services.platform.sampling.inspector import Inspector
from telemetry.services.platform.sampling.metrics import ContainerSeries
from telemetry.services.platform.sampling.observer import Change, Observer
from telemetry.services.platform.sampling.totals import TotalsCounter
from telemetry.services.platform.state.desired import ContainerEvent, DesiredState
from telemetry.services.platform.state.observed import ContainerState, ObservedState
from telemetry.system.docker_engine import Engine, EngineAbsent

Listener = Callable[[ContainerEvent], None]

# `docker stop` reports `kill`, `die`, and only then `stop`: a few ms later, longer if the machine
# is busy.
STOP_WAIT_S = 1.0
_SIGKILL = ("9", "KILL", "SIGKILL")

_log = logging.getLogger(__name__)


class Reconciler:
    """Keeps desired state, observed state, series and totals consistent. One thread only.

    Args:
        engine: the Docker engine.
        desired: the desired state.
        observed: the observed state; filled here.
        series: what is exported.
        totals: restarts and OOM kills.
        listeners: called with every event, after the observed state has it.
    """

    def __init__(
        self,
        engine: Engine,
        desired: DesiredState,
        observed: ObservedState,
        series: ContainerSeries,
        totals: TotalsCounter,
        listeners: Sequence[Listener] = (),
    ) -> None:
        self._desired = desired
        self._observed = observed
        self._series = series
        self._totals = totals
        self._listeners = tuple(listeners)
        self._inspector = Inspector(engine)
        self._observer = Observer(self._inspector, desired, observed, series, totals)
        self._stopped: dict[str, str] = {}  # id to handle of containers reported as stopped

    def apply_events(
        self, raw: Iterable[Mapping[str, Any]], connected: Callable[[], bool]
    ) -> dict[str, float]:
        """Apply Docker's events.

        Args:
            raw: the events as Docker gives them.
            connected: tells whether the connection that brought them is still open.

        Returns:
            The handles whose series to update, and in how many seconds.

        Raises:
            EngineAbsent: the engine does not answer.
        """
        events = [parse_event(each) for each in raw]
        for event in events:
            self._apply(event)
            if event.id in self._observer.known:
                self._observer.known[event.id].reported_ns[event.action] = event.time_ns
        try:
            ids = list(dict.fromkeys(e.id for e in events if e.action != "destroy"))
            for id, change in self._observer.inspect(ids):
                handle = self._stopped.pop(id, None)
                runs = change is not None and change[1].pid
                # A daemon that shuts down also reports that it stops its containers, but it no
                # longer answers and is gone at once: no user asked for that stop, and
                # `reconcile_all` does the rest. A container that runs by now was started again
                # after the stop, or another one has taken its place.
                if handle is None or runs or not connected():
                    continue
                shown = self._observed.get(handle)
                if shown is None or shown.id == id:
                    self._set_stopped(handle)
        finally:
            self._stopped.clear()
            self._notify(events)
        return {event.handle: self._update_delay_s(event.handle) for event in events}

    def reconcile(self, handle: str, ended: ContainerState | None = None) -> float:
        """Reconcile one handle.

        Args:
            handle: whose container to inspect.
            ended: its last state, if its kernel files say that it ended.

        Returns:
            In how many seconds to update its series.

        Raises:
            EngineAbsent: the engine does not answer, and nothing says that the container ended.
        """
        state = self._observed.get(handle)
        if state is None:
            return 0.0
        try:
            self._observer.inspect([state.id])
        except EngineAbsent:
            if ended is None or (state.id, state.started_at) != (ended.id, ended.started_at):
                raise
            # The engine took the container down with it and will not report it.
            dead = self._observer.mark_dead(state)
            if dead is not None:
                self._apply_missed((state, dead))
        return self._update_delay_s(handle)

    def reconcile_all(self, remembers: bool) -> dict[str, float]:
        """Reconcile all containers; some events may have been missed.

        Args:
            remembers: whether the engine can be asked why a container ended.

        Returns:
            The handles whose series to update, and in how many seconds.

        Raises:
            EngineAbsent: the engine does not answer.
        """
        present = self._inspector.list_ids()
        handles = set()
        for id, known in list(self._observer.known.items()):
            if id not in present:
                handles.add(known.handle)
                destroyed = ContainerEvent(known.handle, id, "destroy", time.time_ns())
                self._apply(destroyed)
                self._notify([destroyed])
        for id, change in self._observer.inspect(sorted(present)):
            if change is None:
                continue
            state = change[1]
            handles.add(state.handle)
            self._apply_missed(change)
            shown = self._observed.get(state.handle)
            shows = shown is not None and shown.id == id
            down = shows and not state.pid and self._desired.wanted(state.handle)
            if down and remembers:
                finished_ns = self._observer.known[id].finished_ns
                if self._inspector.was_stopped(id, finished_ns):
                    self._set_stopped(state.handle)
        return {handle: self._update_delay_s(handle) for handle in handles}

    def update_series(self, handle: str) -> None:
        """Update the series of a handle from its observed and desired state."""
        found = self._observer.shown(handle)
        if found is not None:
            state, known = found
            wanted, totals = self._desired.wanted(handle), self._totals.totals(handle)
            self._series.set_state(state, wanted, totals, known.created_ns)
        self._series.set_statuses(self._observed.all())

    def _update_delay_s(self, handle: str) -> float:
        """Return how long to wait for an event that explains a handle's state, in seconds."""
        found = self._observer.shown(handle)
        if found is None or found[0].pid:
            return 0.0
        state, known = found
        # `docker rm -f` also reports `die` first, and then `destroy`.
        if not known.asked_to_end and state.state != "removing":
            return 0.0
        return STOP_WAIT_S if self._desired.wanted(handle) else 0.0

    def _apply(self, event: ContainerEvent) -> None:
        """Take from an event what inspect does not say."""
        known = self._observer.know(event.handle, event.id)
        shown = self._observed.get(event.handle)
        shows = shown is None or shown.id == event.id
        if event.action == "oom":
            self._totals.count_oom_event(event.handle, event.time_ns)
        elif event.action == "kill":
            known.asked_to_end = known.asked_to_end or event.detail not in _SIGKILL
        elif event.action == "stop":
            if shows:
                self._stopped[event.id] = event.handle
        elif event.action == "start":
            known.asked_to_end = False
            self._stopped.pop(event.id, None)
            if shown is None or shows or not shown.pid:
                self._desired.started(event.handle, event.id)
        elif event.action == "destroy":
            self._observer.remove(event.handle, event.id)

    def _apply_missed(self, change: Change) -> None:
        before, now = change
        known = self._observer.known.get(now.id)
        events = missed_events(before, now, known.reported_ns if known is not None else {})
        for event in events:
            self._apply(event)
        self._notify(events)

    def _set_stopped(self, handle: str) -> None:
        self._desired.stopped(handle)
        self._observer.replace_stopped(handle)

    def _notify(self, events: Iterable[ContainerEvent]) -> None:
        for event in events:
            for listener in self._listeners:
                try:
                    listener(event)
                except Exception:
                    _log.exception("platform: a listener failed at %s", event)
