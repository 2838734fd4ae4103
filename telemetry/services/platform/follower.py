"""Logs of containers that the collector can't read by file, followed through Docker's API.

The collector reads the files of Docker's json-file driver, where they carry the handle. A
container that was adopted without that, or with another driver, or whose file the collector
can't read, is followed here, and its lines are sent by OTLP as the collector's own would be.
How far each was followed is kept once its lines have arrived: every line comes, and comes once.
"""

from __future__ import annotations

import logging
import os
import queue
import re
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk._logs.export import LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from telemetry.errors import TelemetryError
from telemetry.redaction import Redactor
from telemetry.services.platform.desired import HANDLE_LABEL, LOGS_LABEL, ContainerEvent
from telemetry.services.platform.engine import Engine, cut
from telemetry.services.platform.sampling.timestamps import to_ns
from telemetry.services.platform.settings import Settings
from telemetry.services.platform.store import Store
from telemetry.services.platform.view import ContainerState

DOCKER_CONTAINERS = Path("/var/lib/docker/containers")
QUEUE = 2000  # lines of all containers that wait to be sent; then their readers wait
BATCH = 500
GATHER_S = 0.3  # how long lines wait for company, such as the rest of a stack trace
RETRY_S = 1.0
_SCOPE = InstrumentationScope("telemetry.platform")
# As collector/config.yaml has them, so that a line looks the same whichever way it came.
_CONTINUED = re.compile(
    r"\s|Traceback |Caused by: |\.\.\. \d+ more|During handling of |The above exception |"
    r"[A-Za-z_][\w.]*(Error|Exception|Interrupt|Exit)(:|$)|"
    r"[A-Za-z0-9+/]{64}$|-----END "
)
_LEVEL = re.compile(r"\b(trace|debug|info|warn|warning|error|fatal|critical)\b", re.IGNORECASE)
_SEVERITY = {
    "trace": SeverityNumber.TRACE,
    "debug": SeverityNumber.DEBUG,
    "info": SeverityNumber.INFO,
    "warn": SeverityNumber.WARN,
    "warning": SeverityNumber.WARN,
    "error": SeverityNumber.ERROR,
    "fatal": SeverityNumber.FATAL,
    "critical": SeverityNumber.FATAL,
}
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Line:
    """A line that a container printed.

    Args:
        handle: whose.
        container_id: which container's.
        at: Docker's time of it, RFC 3339 with nine digits.
        text: without the line feed.
    """

    handle: str
    container_id: str
    at: str
    text: str


class Follower:
    """Follows containers, each in a thread, and sends what they print from another.

    Args:
        settings: what the platform was told.
        engine: Docker.
        store: remembers how far each was followed.
        exporter: where lines go.

    Raises:
        ConfigError: a pattern of secrets in the settings is none.
    """

    def __init__(
        self, settings: Settings, engine: Engine, store: Store, exporter: LogRecordExporter
    ) -> None:
        self._settings = settings
        self._engine = engine
        self._store = store
        self._exporter = exporter
        self._redactor = Redactor.from_env(settings.environ)
        self._lock = threading.Lock()
        self._streams: dict[str, Any] = {}
        # Read, though maybe not sent yet: a container that starts again is followed from there.
        self._read_until: dict[str, str] = {}
        self._lines: queue.Queue[Line | None] = queue.Queue(QUEUE)
        self._stopping = threading.Event()
        self._sender = threading.Thread(target=self._send, name="platform-logs-out", daemon=True)

    def start(self) -> None:
        """Begin to send."""
        self._sender.start()

    def stop(self) -> None:
        """End; what was not sent is followed again by the next process."""
        self._stopping.set()
        with self._lock:
            streams = list(self._streams.values())
        for stream in filter(None, streams):
            cut(stream)
        with suppress(queue.Full):
            self._lines.put_nowait(None)  # wakes the sender
        self._sender.join(5.0)
        self._exporter.shutdown()  # type: ignore[no-untyped-call]

    def happened(self, event: ContainerEvent) -> None:
        """A listener of the watcher's: whatever starts is followed."""
        if event.action == "start":
            self._follow(event.handle, event.id)
        elif event.action == "destroy":
            self._read_until.pop(event.id, None)

    def look(self, states: Iterable[ContainerState]) -> None:
        """Follow those that run and are not followed yet."""
        for state in states:
            if state.state == "running":
                self._follow(state.handle, state.id)

    def _follow(self, handle: str, container_id: str) -> None:
        with self._lock:
            if container_id in self._streams or self._stopping.is_set():
                return
            self._streams[container_id] = None
        threading.Thread(
            target=self._read, args=(handle, container_id), name=f"logs-{handle}", daemon=True
        ).start()

    # --- reading: a thread a container ----------------------------------------------------------

    def _read(self, handle: str, container_id: str) -> None:
        import docker

        try:
            with self._engine.asked() as client:
                container = client.containers.get(container_id)
                if not by_api(container.attrs, self._settings):
                    return
                self._read_from(container, handle)
        except (TelemetryError, docker.errors.APIError) as error:
            _log.warning("logs of %s can't be followed now: %s", handle, error)
        finally:
            with self._lock:
                del self._streams[container_id]

    def _read_from(self, container: Any, handle: str) -> None:
        record = self._store.get(handle)
        sent = record.logs_until if record and record.container_id == container.id else ""
        until = max(sent, self._read_until.get(container.id, ""))
        stream = container.logs(
            stream=True,
            follow=True,
            timestamps=True,
            since=to_ns(until) // 10**9 if until else None,
        )
        with self._lock:
            self._streams[container.id] = stream
        if self._stopping.is_set():  # it may have looked for the stream just before
            cut(stream)
        for at, text in lines(stream, tty=container.attrs["Config"]["Tty"]):
            # Docker takes whole seconds: the lines of this one that have been sent come again.
            if at > until:
                self._put(Line(handle, container.id, at, text))

    def _put(self, line: Line) -> None:
        while not self._stopping.is_set():
            try:
                self._lines.put(line, timeout=RETRY_S)
                self._read_until[line.container_id] = line.at
                return
            except queue.Full:
                pass  # the collector is away; Docker keeps the lines meanwhile

    # --- sending: one thread --------------------------------------------------------------------

    def _send(self) -> None:
        while not self._stopping.is_set():
            batch = self._gather()
            records = [record_of(entry, self._redactor) for entry in entries(batch)]
            while records and self._exporter.export(records) is not LogRecordExportResult.SUCCESS:
                if self._stopping.wait(RETRY_S):
                    return
            for line in {line.container_id: line for line in batch}.values():
                self._store.save_logs_until(line.handle, line.container_id, line.at)

    def _gather(self) -> list[Line]:
        found = [self._lines.get()]
        self._stopping.wait(GATHER_S)
        while len(found) < BATCH and not self._lines.empty():
            found.append(self._lines.get_nowait())
        return [line for line in found if line is not None]


def by_api(attrs: Mapping[str, Any], settings: Settings) -> bool:
    """Whether a container's logs must be followed here: the collector can't read them with their
    handle, and it doesn't send them itself.

    Args:
        attrs: what Docker's inspect answers.
        settings: what the platform was told.
    """
    if (attrs["Config"].get("Labels") or {}).get(LOGS_LABEL) == "otlp":
        return False
    config = attrs["HostConfig"]["LogConfig"]
    carried = (config.get("Config") or {}).get("labels", "").split(",")
    if config["Type"] != "json-file" or HANDLE_LABEL not in carried:
        return True
    path = Path(attrs["LogPath"])
    if settings.tailed is not None:
        # A folder that was named is the collector's to read, wherever that runs.
        return not path.is_relative_to(settings.tailed)
    # Else a collector of this machine reads Docker's own, as the same user.
    return not path.is_relative_to(DOCKER_CONTAINERS) or not os.access(path, os.R_OK)


def lines(stream: Iterable[bytes], *, tty: bool) -> Iterator[tuple[str, str]]:
    """Times and texts of what Docker streams with timestamps.

    Args:
        stream: chunks: without a terminal each is a message, of which long lines take several,
            each with a time of its own; with one, they are cut anywhere.
        tty: whether the container has a terminal.
    """
    at, text, rest = "", "", b""
    for chunk in stream:
        rest += chunk
        if tty and not rest.endswith(b"\n"):
            continue
        time, _, said = rest.decode(errors="replace").partition(" ")
        at, text, rest = at or time, text + said, b""
        if said.endswith("\n"):
            yield at, text.rstrip("\r\n")
            at, text = "", ""


def entries(batch: Iterable[Line]) -> list[Line]:
    """Lines with what belongs to them: a stack trace is one entry."""
    found: list[Line] = []
    last: dict[str, int] = {}
    for line in batch:
        index = last.get(line.container_id)
        if index is not None and (not line.text or _CONTINUED.match(line.text)):
            first = found[index]
            text = f"{first.text}\n{line.text}"
            found[index] = Line(first.handle, first.container_id, first.at, text)
        else:
            last[line.container_id] = len(found)
            found.append(line)
    return found


def record_of(entry: Line, redactor: Redactor) -> ReadableLogRecord:
    """An entry as the collector would have made it of a file's, without secrets."""
    level = _LEVEL.search(entry.text)
    severity = _SEVERITY[level[0].lower()] if level else SeverityNumber.UNSPECIFIED
    return ReadableLogRecord(
        LogRecord(
            timestamp=to_ns(entry.at),
            severity_number=severity,
            severity_text=level[0].lower() if level else None,
            body=redactor.text(entry.text),
            attributes={"log.source": "container"},
        ),
        Resource({"service.name": "container", HANDLE_LABEL: entry.handle}),
        _SCOPE,
    )
