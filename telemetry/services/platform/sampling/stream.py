"""Docker's event stream: connected again whenever it breaks, and nothing missed meanwhile."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from telemetry.services.platform.sampling.timestamps import to_ns, to_seconds
from telemetry.services.platform.state.desired import HANDLE_LABEL
from telemetry.system.docker_engine import Engine, EngineAbsent

# Health checks raise three exec events a probe; only what changes a container is asked for.
ACTIONS = (
    "create", "start", "restart", "die", "oom", "health_status", "kill", "stop", "pause",
    "unpause", "rename", "update", "destroy",
)  # fmt: skip
FILTERS = {"type": ["container"], "label": [HANDLE_LABEL], "event": list(ACTIONS)}
FIRST_DELAY_S = 0.1
LONGEST_DELAY_S = 5.0
REMEMBERED = 1024  # events; Docker itself replays 256 at most

_Key = tuple[int, str, str]  # what tells events apart: time, container's id, action
_log = logging.getLogger(__name__)


class EventStream:
    """Reads the events in a thread of its own.

    Args:
        engine: whose events.
        on_event: called with each event as Docker gives it, once, in order.
        on_connected: called after each connect, when what the engine still knew of the events
            missed has been handed over; only a full look at the containers tells the rest. Its
            argument is false where this is a new daemon, which has no memory of before.
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
        self._recent: deque[_Key] = deque(maxlen=REMEMBERED)
        self._lost = False
        self.number = 0
        """Of the present connection; changes when it ends."""

    def start(self) -> None:
        """Begin to read."""
        self._stopping.clear()
        self._thread = threading.Thread(target=self._run, name="telemetry-events", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End it."""
        self._stopping.set()
        self.interrupt()
        if self._thread is not None:
            self._thread.join(5)
            self._thread = None

    def interrupt(self) -> None:
        """Break the connection; it is made again unless the stream is being stopped."""
        if (found := self._open) is not None:
            try:
                found.close()
            except (OSError, AttributeError):
                pass  # closed already; the SDK looks for the socket where there is none any more

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
                # Docker's SDK lets through what its libraries raise when a connection breaks;
                # whatever it is, a thread that ends here would leave us blind.
                why = f"{type(error).__name__}: {error}"
            self.number += 1
            if self._stopping.is_set():
                return
            if not self._lost:
                self._lost = True
                _log.warning("platform: Docker's events are lost (%s); trying again", why)
            self._stopping.wait(delay_s)
            delay_s = min(delay_s * 2, LONGEST_DELAY_S)

    def _follow(self) -> None:
        with self._engine.asked() as client:
            # The engine's own clock: that of a remote one may differ from ours.
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
                    self._hand_over(self._open)
            finally:
                self.interrupt()
                self._open = None

    def _replay(self, client: Any, now_ns: int) -> bool:
        """What happened between the last event and now, as far as the engine remembers; whether
        it is still the daemon that reported that last event."""
        span = {"since": to_seconds(self._last_ns), "until": to_seconds(now_ns)}
        events = list(self._events(client, **span))
        same = self._last in [_key(event) for event in events]
        if not same:
            # A daemon that starts after a crash stops what the old one left running: nobody asked
            # for that. It answers nobody before it has done so; the live stream gives them again.
            self._recent.extend(_key(event) for event in events if event["Action"] == "stop")
        self._hand_over(events)
        return same

    def _events(self, client: Any, **span: str) -> Any:
        return client.api.events(filters=FILTERS, decode=True, **span)

    def _hand_over(self, events: Iterable[dict[str, Any]]) -> None:
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
