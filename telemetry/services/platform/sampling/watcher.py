"""Watches the containers: Docker's events, confirmed by inspect, exported at once."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import telemetry
from telemetry.services.platform.sampling.reconciler import Roster
from telemetry.services.platform.sampling.stream import EventStream
from telemetry.services.platform.state.observed import ContainerState
from telemetry.system.docker_engine import Engine, EngineAbsent

# Of a burst of events the first is exported at once, the rest four times a second. A judgement.
EXPORT_APART_S = 0.25

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Happened:
    """An event, and the number of the connection that brought it."""

    event: dict[str, Any]
    connection: int


@dataclass(frozen=True)
class _Connected:
    """The stream is new: everything has to be looked at."""

    remembers: bool


@dataclass(frozen=True)
class _Look:
    handle: str
    ended: ContainerState | None


@dataclass(frozen=True)
class _Stop:
    """Everything has to end."""


def _kind(item: Any) -> tuple[type, Any]:
    """What is taken together: events of one connection. Of looks, one that fails must not keep
    the next from being shown."""
    return type(item), item.connection if isinstance(item, _Happened) else item


def _export() -> None:
    telemetry.flush_metrics(0)  # asks for it, and doesn't wait


class Watcher:
    """Follows the engine's events, in threads of its own.

    Args:
        engine: the Docker engine; may be absent, may come and go.
        roster: takes the events.
        export: sends the series now, without waiting.
    """

    def __init__(
        self, engine: Engine, roster: Roster, export: Callable[[], None] = _export
    ) -> None:
        self._roster = roster
        self._export = export
        self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._stream = EventStream(
            engine,
            lambda event: self._queue.put(_Happened(event, self._stream.number)),
            lambda remembers: self._queue.put(_Connected(remembers)),
        )
        self._thread: threading.Thread | None = None
        self._due: dict[str, float] = {}  # handles to be shown, and when
        self._export_due: float | None = None
        self._exported = 0.0

    def start(self) -> None:
        """Begin to watch."""
        self._thread = threading.Thread(target=self._run, name="telemetry-watcher", daemon=True)
        self._thread.start()
        self._stream.start()

    def stop(self) -> None:
        """End it."""
        self._stream.stop()
        self._queue.put(_Stop())
        if self._thread is not None:
            self._thread.join(5)
            self._thread = None

    def look(self, handle: str, ended: ContainerState | None = None) -> None:
        """Look at a handle's container anew.

        Args:
            handle: whose; its desired state has changed, or
            ended: it ended, as its files say, when it had been seen like this.
        """
        self._queue.put(_Look(handle, ended))

    def reconnect(self) -> None:
        """Break the connection to the engine and make it again."""
        self._stream.interrupt()

    def _run(self) -> None:
        while True:
            items = self._wait()
            if _Stop() in items:
                return
            for kind, group in groupby(items, _kind):
                self._take(kind, list(group))
            self._show_due()

    def _wait(self) -> list[Any]:
        """What has come in; nothing where something fell due first."""
        dues = list(self._due.values())
        if self._export_due is not None:
            dues.append(self._export_due)
        timeout = max(0.0, min(dues) - time.monotonic()) if dues else None
        items = []
        try:
            items.append(self._queue.get(timeout=timeout))
            while True:
                items.append(self._queue.get_nowait())
        except queue.Empty:
            return items

    def _take(self, kind: tuple[type, Any], items: list[Any]) -> None:
        """Items of one kind, in the order they came."""
        try:
            if kind[0] is _Happened:
                events = [item.event for item in items]
                shown = self._roster.happened(events, lambda: self._stream.number == kind[1])
            elif kind[0] is _Look:
                handle = items[0].handle
                shown = {handle: self._roster.look(handle, items[0].ended)}
            else:
                remembers = all(item.remembers for item in items)
                shown = self._roster.sync(remembers)
        except EngineAbsent as error:
            # Once the stream is there again everything is looked at. It may have outlived an
            # engine that was only slow to answer.
            _log.info("platform: %s", error.message)
            self._stream.interrupt()
        except Exception:
            _log.exception("platform: %d items of the event stream were lost", len(items))
        else:
            now = time.monotonic()
            self._due.update({handle: now + wait_s for handle, wait_s in shown.items()})

    def _show_due(self) -> None:
        now = time.monotonic()
        due = [handle for handle, at in self._due.items() if at <= now]
        for handle in due:
            del self._due[handle]
            self._roster.show(handle)
        if due and self._export_due is None:
            self._export_due = max(now, self._exported + EXPORT_APART_S)
        if self._export_due is not None and self._export_due <= now:
            self._export_due, self._exported = None, now
            self._export()
