"""Read Docker's event stream; reconnect when it breaks, and replay what was missed."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from telemetry.services.platform.sampling.timestamps import to_ns, to_seconds
from telemetry.services.platform.state.desired import HANDLE_LABEL
from telemetry.system.docker_engine import Engine, EngineAbsent

# Only what changes a container: each health check alone causes three exec events.
CHANGES = ["create", "rename", "update", "destroy"]
CHANGES += ["start", "restart", "pause", "unpause", "stop", "kill", "die", "oom", "health_status"]
FILTERS = {"type": ["container"], "label": [HANDLE_LABEL], "event": CHANGES}
FIRST_DELAY_S = 0.1
MAX_DELAY_S = 5.0
MAX_RECENT = 1024  # events; Docker itself replays at most 256

_Key = tuple[int, str, str]  # identifies an event: time, container's id, action
_log = logging.getLogger(__name__)


class EventStream:
    """Reads the events in a thread of its own.

    Args:
        engine: the Docker engine.
        on_event: called once with each event as Docker gives it, in order.
        on_connected: called after each connect, once the events that the engine could replay
            have been passed on; the rest needs an inspect of all containers. Its argument is
            false if this is a new daemon, which remembers nothing of earlier events.
    """

    def __init__(
        self,
        engine: Engine,
        on_event: Callable[[dict[str, Any]], None],
        on_connected: Callable[[bool], None],
    ) -> None:
        self._engine = engine
        self._on_event = on_event
        self._on_connected = on_connected
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._open: Any = None
        self._last_ns = 0
        self._last: _Key | None = None
        self._recent: deque[_Key] = deque(maxlen=MAX_RECENT)
        self._lost = False
        self.number = 0
        """Number of the present connection; changes when it ends."""

    def start(self) -> None:
        """Start reading."""
        self._stopping.clear()
        self._thread = threading.Thread(target=self._run, name="telemetry-events", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop reading."""
        self._stopping.set()
        self.interrupt()
        if self._thread is not None:
            self._thread.join(5)
            self._thread = None

    def interrupt(self) -> None:
        """Close the connection; the stream reconnects unless it is being stopped."""
        if (found := self._open) is not None:
            try:
                found.close()
            except (OSError, AttributeError):
                pass  # closed already; the SDK then fails to find the socket

    def _run(self) -> None:
        delay_s = FIRST_DELAY_S
        while not self._stopping.is_set():
            why = "the stream ended"
            try:
                self._follow()
                delay_s = FIRST_DELAY_S
            except EngineAbsent as error:
                why = error.message
            except Exception as error:
                # Docker's SDK passes on what its libraries raise when a connection breaks. If this
                # thread ended, no event would ever arrive again.
                why = f"{type(error).__name__}: {error}"
            self.number += 1
            if self._stopping.is_set():
                return
            if not self._lost:
                self._lost = True
                _log.warning("platform: Docker's events are lost (%s); trying again", why)
            self._stopping.wait(delay_s)
            delay_s = min(delay_s * 2, MAX_DELAY_S)

    def _follow(self) -> None:
        with self._engine.connect() as client:
            # By the engine's own clock: that of a remote engine may differ from ours.
            now_ns = to_ns(client.info()["SystemTime"])
            remembers = True
            if self._last_ns:
                remembers = self._replay(client, now_ns)
            else:
                self._last_ns = now_ns
            self._on_connected(remembers)
            self._open = self._events(client, since=to_seconds(self._last_ns))
            if self._lost:
                self._lost = False
                _log.warning("platform: Docker's events are back")
            try:
                if not self._stopping.is_set():
                    self._pass_on(self._open)
            finally:
                self.interrupt()
                self._open = None

    def _replay(self, client: Any, now_ns: int) -> bool:
        """Pass on the events since the last one, as far as the engine remembers them.

        Returns:
            Whether it is still the daemon that reported that last event."""
        span = {"since": to_seconds(self._last_ns), "until": to_seconds(now_ns)}
        events = list(self._events(client, **span))
        same = self._last in [_key(event) for event in events]
        if not same:
            # A daemon that starts after a crash stops the containers that the old one left running;
            # no user asked for that. It answers requests only afterwards, and the live stream
            # repeats these events.
            self._recent.extend(_key(event) for event in events if event["Action"] == "stop")
        self._pass_on(events)
        return same

    def _events(self, client: Any, **span: str) -> Any:
        return client.api.events(filters=FILTERS, decode=True, **span)

    def _pass_on(self, events: Iterable[dict[str, Any]]) -> None:
        for event in events:
            key = _key(event)
            if key in self._recent:
                continue
            self._recent.append(key)
            if key[0] >= self._last_ns:
                self._last_ns, self._last = key[0], key
            self._on_event(event)


def _key(event: dict[str, Any]) -> _Key:
    return int(event["timeNano"]), event["Actor"]["ID"], event["Action"]
