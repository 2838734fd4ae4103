"""The watched containers: each event is noted, and what it means is taken from inspect."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

from telemetry.services.platform.sampling.metrics import Series
from telemetry.services.platform.sampling.timestamps import to_ns, to_seconds
from telemetry.services.platform.sampling.totals import Counts
from telemetry.services.platform.state.desired import HANDLE_LABEL, ContainerEvent, Desired
from telemetry.services.platform.state.observed import Containers, ContainerState, from_inspect
from telemetry.system.docker_engine import Engine, EngineAbsent

Listener = Callable[[ContainerEvent], None]
_Found = tuple[ContainerState | None, ContainerState]

# `docker stop` says `kill`, `die`, and only then `stop`: a few ms later, on a busy machine more.
STOP_WAIT_S = 1.0
AT_ONCE = 8  # containers inspected; a judgement
_SIGKILL = ("9", "KILL", "SIGKILL")

_log = logging.getLogger(__name__)


@dataclass
class _Known:
    """A container that Docker has.

    Args:
        handle: whose.
        created_ns: Unix nanoseconds.
        finished_ns: end of its last run, 0 before the first.
        asked_to_end: got a signal that a program may end itself by.
        told_ns: when the engine last told of an action, Unix nanoseconds.
    """

    handle: str
    created_ns: int = 0
    finished_ns: int = 0
    asked_to_end: bool = False
    told_ns: dict[str, int] = field(default_factory=dict)


class Roster:
    """Keeps view, series, counts and desired state up with Docker. One thread only.

    Args:
        engine: the Docker engine.
        desired: what is to be.
        view: what is; filled here.
        series: what is exported.
        counts: restarts and OOM kills.
        listeners: told of every event, after the view has it.
    """

    def __init__(
        self,
        engine: Engine,
        desired: Desired,
        view: Containers,
        series: Series,
        counts: Counts,
        listeners: Sequence[Listener] = (),
    ) -> None:
        self._engine = engine
        self._desired = desired
        self._view = view
        self._series = series
        self._counts = counts
        self._listeners = tuple(listeners)
        self._known: dict[str, _Known] = {}
        self._stopped: dict[str, str] = {}  # id to handle of what is said to be stopped

    def happened(
        self, raw: Iterable[Mapping[str, Any]], connected: Callable[[], bool]
    ) -> dict[str, float]:
        """Events came in.

        Args:
            raw: as Docker gives them.
            connected: whether the connection that brought them is still there.

        Returns:
            The handles whose series have to be shown, and in how many seconds.

        Raises:
            EngineAbsent: the engine is gone again.
        """
        events = [_event(each) for each in raw]
        for event in events:
            self._note(event)
            if event.id in self._known:
                self._known[event.id].told_ns[event.action] = event.time_ns
        try:
            ids = list(dict.fromkeys(e.id for e in events if e.action != "destroy"))
            for id, found in self._inspect(ids):
                # A daemon that shuts down reports that it stops its containers, too, but answers
                # no more and is gone at once: nobody asked for that. `sync` sees to the rest.
                # And one that runs by now was started again since: that is what is wanted, as is
                # one that has taken its place.
                handle, runs = self._stopped.pop(id, None), found is not None and found[1].pid
                if handle is None or runs or not connected():
                    continue
                shown = self._view.get(handle)
                if shown is None or shown.id == id:
                    self._desired.stopped(handle)
                    self._hand_over(handle)
        finally:
            self._stopped.clear()
            self._tell(events)
        return {event.handle: self._wait_s(event.handle) for event in events}

    def look(self, handle: str, ended: ContainerState | None = None) -> float:
        """Look at a handle's container anew.

        Args:
            handle: whose.
            ended: where it is said to have ended: how it was seen before.

        Returns:
            In how many seconds its series have to be shown.

        Raises:
            EngineAbsent: the engine is gone, and nobody said that the container is.
        """
        state = self._view.get(handle)
        if state is None:
            return 0.0
        try:
            self._inspect([state.id])
        except EngineAbsent:
            if ended is None or (state.id, state.started_at) != (ended.id, ended.started_at):
                raise
            # The engine took it down with it, and won't tell; `sync` sees to the rest. Not
            # "exited": restarts by policy would be counted as ones by hand.
            dead = replace(state, state="dead", pid=0)
            if state.pid and self._view.put(dead, time.monotonic()):
                known = self._known.setdefault(state.id, _Known(handle))
                self._series.sees(dead, known.created_ns)
                self._tell(self._between(state, dead))
        return self._wait_s(handle)

    def sync(self, remembers: bool) -> dict[str, float]:
        """Look at all containers: some events may have been missed.

        Args:
            remembers: whether the engine can be asked why a container ended.

        Returns:
            The handles whose series have to be shown, and in how many seconds.

        Raises:
            EngineAbsent: the engine is gone again.
        """
        with self._engine.asked() as client:
            listed = client.api.containers(all=True, filters={"label": [HANDLE_LABEL]})
        present = {each["Id"] for each in listed}
        handles = set()
        for id, known in list(self._known.items()):
            if id not in present:
                handles.add(known.handle)
                self._tell([self._missed(known.handle, id, "destroy")])
        for id, found in self._inspect(sorted(present)):
            if found is None:
                continue
            before, state = found
            handles.add(state.handle)
            self._tell(self._between(before, state))
            shown = self._view.get(state.handle)
            shows = shown is not None and shown.id == id
            down = shows and not state.pid and self._desired.wanted(state.handle)
            if down and remembers and self._was_stopped(id):
                self._desired.stopped(state.handle)
                self._hand_over(state.handle)
        return {handle: self._wait_s(handle) for handle in handles}

    def show(self, handle: str) -> None:
        """Have the series say what is known of a handle."""
        state = self._view.get(handle)
        known = self._known.get(state.id) if state is not None else None
        if state is not None and known is not None:
            wanted, totals = self._desired.wanted(handle), self._counts.totals(handle)
            self._series.show(state, wanted, totals, known.created_ns)
        self._series.statuses(self._view.all())

    def _wait_s(self, handle: str) -> float:
        """How long it is open what a handle's state means, in seconds."""
        state = self._view.get(handle)
        known = self._known.get(state.id) if state is not None else None
        if state is None or known is None or state.pid:
            return 0.0
        # `docker rm -f` says `die` first, too, and then `destroy`.
        if not known.asked_to_end and state.state != "removing":
            return 0.0
        return STOP_WAIT_S if self._desired.wanted(handle) else 0.0

    # --- events ----------------------------------------------------------------------------------

    def _note(self, event: ContainerEvent) -> None:
        """What only the event itself tells."""
        known = self._known.setdefault(event.id, _Known(event.handle))
        if event.action == "oom":
            self._counts.oom_event(event.handle, event.time_ns)
        elif event.action == "kill":
            known.asked_to_end = known.asked_to_end or event.detail not in _SIGKILL
        elif event.action == "stop":
            shown = self._view.get(event.handle)
            if shown is None or shown.id == event.id:
                self._stopped[event.id] = event.handle
        elif event.action == "start":
            known.asked_to_end = False
            self._stopped.pop(event.id, None)
            shown = self._view.get(event.handle)
            if shown is None or shown.id == event.id or not shown.pid:
                self._desired.started(event.handle, event.id)
        elif event.action == "destroy":
            self._gone(event.handle, event.id)

    def _gone(self, handle: str, id: str) -> None:
        self._known.pop(id, None)
        self._desired.removed(handle, id)
        self._view.drop(handle, id)
        others = [other for other, known in self._known.items() if known.handle == handle]
        if not others:
            self._counts.forget(handle)
            self._series.end(handle)
        if self._view.get(handle) is not None:
            return
        # A second one with that handle, so far in the shadow of this one.
        for other, found in self._inspect(others):
            if found is not None and found[1].pid:
                self._desired.started(handle, other)

    def _hand_over(self, handle: str) -> None:
        """The one that is shown was stopped on purpose: another one with its handle that runs is
        shown instead. Not after a crash, which that would hide."""
        shown = self._view.get(handle)
        for id, known in list(self._known.items()):
            if known.handle != handle or (shown is not None and shown.id == id):
                continue
            answer = self._describe(id)
            if answer is not None and answer[0]["State"].get("Pid"):
                self._take(id, *answer, handed_over=True)
                return

    def _was_stopped(self, id: str) -> bool:
        """Whether its last run was ended by a stop that somebody asked for, as far as the engine
        remembers; inspect doesn't say."""
        since = to_seconds(self._known[id].finished_ns)
        with self._engine.asked() as client:
            until = to_seconds(to_ns(client.info()["SystemTime"]))
            filters = {"container": [id], "event": ["stop"]}
            past = client.api.events(since=since, until=until, filters=filters, decode=True)
            return any(True for _ in past)

    def _missed(self, handle: str, id: str, action: str, **more: Any) -> ContainerEvent:
        """An event made up for one that was missed, noted like a real one."""
        event = ContainerEvent(handle, id, action, time.time_ns(), **more)
        self._note(event)
        return event

    def _between(self, before: ContainerState | None, now: ContainerState) -> list[ContainerEvent]:
        """Events that lead from one state to another; none where nothing was missed."""
        found = []
        if before is not None and before.id != now.id:
            before = None
        # What happened may have been told, and the engine been gone before it could be inspected.
        known = self._known.get(now.id)
        told_ns = known.told_ns if known is not None else {}
        same_run = before is not None and before.started_at == now.started_at
        died = before is not None and before.pid and not (same_run and now.pid)
        if before is not None and died and told_ns.get("die", 0) < to_ns(before.started_at):
            exit_code = now.exit_code if same_run else None
            found.append(self._missed(now.handle, now.id, "die", exit_code=exit_code))
        if now.pid and not same_run and told_ns.get("start", 0) < to_ns(now.started_at):
            found.append(self._missed(now.handle, now.id, "start"))
        if before is not None and now.health and now.health != before.health:
            found.append(self._missed(now.handle, now.id, "health_status", detail=now.health))
        return found

    def _tell(self, events: Iterable[ContainerEvent]) -> None:
        for event in events:
            for listener in self._listeners:
                try:
                    listener(event)
                except Exception:
                    _log.exception("platform: a listener failed at %s", event)

    # --- inspect ---------------------------------------------------------------------------------

    def _inspect(self, ids: Sequence[str]) -> list[tuple[str, _Found | None]]:
        """Take over what the engine says of some containers; side by side, since one that is
        being started or removed keeps who asks waiting.

        Returns:
            Each id, with the shown state before and now; None where the container is gone, or
            another one has its handle.
        """
        if len(ids) < 2:
            answers = [(id, self._describe(id)) for id in ids]
        else:
            with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="telemetry-inspect") as pool:
                described = list(pool.map(self._describe, ids))
            shown = {state.id for state in self._view.all()}
            answers = sorted(
                zip(ids, described, strict=True),
                # Whether one that is shown gives way to another depends on how it is by now.
                key=lambda each: (each[0] not in shown, _rank(each[1])),
            )
        return [(id, None if answer is None else self._take(id, *answer)) for id, answer in answers]

    def _describe(self, id: str) -> tuple[Mapping[str, Any], float] | None:
        import docker

        asked_at = time.monotonic()
        try:
            with self._engine.asked() as client:
                return client.api.inspect_container(id), asked_at
        except docker.errors.NotFound:
            return None  # its `destroy` follows
        except docker.errors.APIError as error:
            _log.warning("platform: container %s can't be inspected: %s", id[:12], error)
            return None

    def _take(
        self, id: str, attrs: Mapping[str, Any], asked_at: float, *, handed_over: bool = False
    ) -> _Found | None:
        state = from_inspect(attrs)
        known = self._known.setdefault(id, _Known(state.handle))
        known.created_ns = to_ns(attrs["Created"])
        known.finished_ns = to_ns(attrs["State"].get("FinishedAt", ""))
        before = self._view.get(state.handle)
        another = before is not None and before.id != id
        if before is not None and another and not handed_over and self._stays(before, state):
            if before.pid and state.pid:
                _log.warning(
                    "platform: containers %s and %s both have the handle %s; the first is shown",
                    before.name, state.name, state.handle,
                )  # fmt: skip
            return None
        shown = state
        if not self._view.put(state, asked_at):
            latest = self._view.get(state.handle)
            if latest is None or latest.id != id:
                return None  # it was removed meanwhile
            before = shown = latest  # whoever asked later has `look` called, too
        self._series.sees(shown, known.created_ns)
        if another and shown.pid:
            self._desired.started(shown.handle, id)
        if (
            before is not None
            and before.state == "exited"
            and before.started_at != shown.started_at
        ):
            self._counts.started_by_hand(state.handle)
        restarts = int(attrs.get("RestartCount", 0))
        oom_killed = state.oom_killed and not state.pid
        self._counts.inspected(state.handle, state.started_at, restarts, oom_killed)
        return before, shown

    def _stays(self, shown: ContainerState, other: ContainerState) -> bool:
        """Whether of two containers with one handle the one that is shown stays so. It gives way
        to what was started after its end, such as its next version; not to what was started
        beside it, such as a one-off by `docker compose run`, unless that was made before it."""
        known = self._known.get(shown.id)
        if known is None:
            return False  # it is gone
        if shown.pid and other.pid:
            return known.created_ns <= self._known[other.id].created_ns
        return not other.pid or to_ns(other.started_at) < known.finished_ns


def _rank(answer: tuple[Mapping[str, Any], float] | None) -> tuple[bool, int]:
    """Of several containers with one handle the first is shown: of those that run the one that
    was made first, else the one that ended last."""
    if answer is None:
        return True, 0
    attrs, state = answer[0], answer[0]["State"]
    runs = bool(state.get("Pid"))
    return not runs, to_ns(attrs["Created"]) if runs else -to_ns(state.get("FinishedAt", ""))


def _event(raw: Mapping[str, Any]) -> ContainerEvent:
    attributes = raw["Actor"]["Attributes"]
    action, _, detail = raw["Action"].partition(": ")
    exit_code = attributes.get("exitCode") if action == "die" else None
    return ContainerEvent(
        attributes[HANDLE_LABEL],
        raw["Actor"]["ID"],
        action,
        int(raw["timeNano"]),
        int(exit_code) if exit_code else None,
        attributes.get("signal", "") if action == "kill" else detail,
    )
