"""Watch the containers: read Docker's events, have them reconciled, export at once."""

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
from telemetry.services.platform.sampling.reconciler import Reconciler
from telemetry.services.platform.sampling.stream import EventStream
from telemetry.services.platform.state.observed import ContainerState
from telemetry.system.docker_engine import Engine, EngineAbsent

# The first of a burst of events is exported at once, the others at this interval. Chosen by
# judgement, not measured.
EXPORT_INTERVAL_S = 0.25

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Event:
    """An event, and the number of the connection that brought it."""

    event: dict[str, Any]
    connection: int


@dataclass(frozen=True)
class _Connected:
    """The stream has connected: reconcile all containers."""

    remembers: bool


@dataclass(frozen=True)
class _Reconcile:
    """A handle's desired state has changed, or its container has ended."""

    handle: str
    ended: ContainerState | None


@dataclass(frozen=True)
class _Stop:
    """Stop the thread."""


def _kind(item: Any) -> tuple[type, Any]:
    """Group key of items: events of one connection are applied together.

    Each handle is reconciled alone: if one fails, the next must not be lost."""
    return type(item), item.connection if isinstance(item, _Event) else item


def _export() -> None:
    telemetry.flush_metrics(0)  # requests an export without waiting for it


class Watcher:
    """Reads the engine's events, in threads of its own.

    Args:
        engine: the Docker engine; may be absent, may come and go.
        reconciler: applies the events.
        export: requests an export of the series, without waiting for it.
    """

    def __init__(
        self, engine: Engine, reconciler: Reconciler, export: Callable[[], None] = _export
    ) -> None:
        self._reconciler = reconciler
        self._export = export
        self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._stream = EventStream(
            engine,
            lambda event: self._queue.put(_Event(event, self._stream.number)),
            lambda remembers: self._queue.put(_Connected(remembers)),
        )
        self._thread: threading.Thread | None = None
        self._due: dict[str, float] = {}  # handle to the time to update its series
        self._export_due: float | None = None
        self._exported = 0.0

    def start(self) -> None:
        """Start watching."""
        self._thread = threading.Thread(target=self._run, name="telemetry-watcher", daemon=True)
        self._thread.start()
        self._stream.start()

    def stop(self) -> None:
        """Stop watching."""
        self._stream.stop()
        self._queue.put(_Stop())
        if self._thread is not None:
            self._thread.join(5)
            self._thread = None

    def reconcile(self, handle: str, ended: ContainerState | None = None) -> None:
        """Reconcile a handle soon; returns at once.

        Args:
            handle: its desired state has changed, or its container has ended.
            ended: the last state of a container whose kernel files say that it ended.
        """
        self._queue.put(_Reconcile(handle, ended))

    def reconnect(self) -> None:
        """Close the connection to the engine and connect again."""
        self._stream.interrupt()

    def _run(self) -> None:
        while True:
            items = self._next_items()
            if _Stop() in items:
                return
            for kind, group in groupby(items, _kind):
                self._process(kind, list(group))
            self._update_due_series()

    def _next_items(self) -> list[Any]:
        """Wait for items; returns none if a series update or an export is due first."""
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

    def _process(self, kind: tuple[type, Any], items: list[Any]) -> None:
        """Process items of one group, in order."""
        try:
            if kind[0] is _Event:
                events = [item.event for item in items]
                delays_s = self._reconciler.apply_events(
                    events, lambda: self._stream.number == kind[1]
                )
            elif kind[0] is _Reconcile:
                handle = items[0].handle
                delays_s = {handle: self._reconciler.reconcile(handle, items[0].ended)}
            else:
                remembers = all(item.remembers for item in items)
                delays_s = self._reconciler.reconcile_all(remembers)
        except EngineAbsent as error:
            # After the reconnect all containers are reconciled. Close the stream, since an engine
            # that was only slow to answer may have kept it open.
            _log.info("platform: %s", error.message)
            self._stream.interrupt()
        except Exception:
            _log.exception("platform: %d items of the event stream were lost", len(items))
        else:
            now = time.monotonic()
            self._due.update({handle: now + delay_s for handle, delay_s in delays_s.items()})

    def _update_due_series(self) -> None:
        now = time.monotonic()
        due = [handle for handle, at in self._due.items() if at <= now]
        for handle in due:
            del self._due[handle]
            self._reconciler.update_series(handle)
        if due and self._export_due is None:
            self._export_due = max(now, self._exported + EXPORT_INTERVAL_S)
        if self._export_due is not None and self._export_due <= now:
            self._export_due, self._exported = None, now
            self._export()
