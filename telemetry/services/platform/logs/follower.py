"""Follow logs through Docker's API that the Collector can't read from files.

The Collector reads the files of Docker's json-file driver if they contain the handle. The follower
reads the logs of other containers: adopted ones without the handle in their files, those with
another driver, and those whose files the Collector can't read. It sends the lines by OTLP, in the
same form as the Collector. The position in each log is stored after its lines have arrived, so
every line is sent exactly once.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import requests
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk._logs.export import LogRecordExportResult

from telemetry import metrics
from telemetry.errors import TelemetryError
from telemetry.redaction import Redactor
from telemetry.services.platform.logs.lines import (
    Line,
    LineBuffer,
    entries,
    follow,
    lines,
    record_of,
)
from telemetry.services.platform.sampling.timestamps import to_ns
from telemetry.services.platform.settings import Settings
from telemetry.services.platform.state.desired import HANDLE_LABEL, LOGS_LABEL, ContainerEvent
from telemetry.services.platform.state.observed import ContainerState
from telemetry.services.platform.state.store import Store
from telemetry.system.docker_engine import Engine, close_stream

DOCKER_CONTAINERS = Path("/var/lib/docker/containers")
GATHER_S = 0.3  # wait for further lines, such as the rest of a stack trace
RETRY_S = 1.0
# Refusals that are not about the content: authentication, address, and temporary ones.
_RETRIED = frozenset((401, 403, 404, 407, 408, 429))
_log = logging.getLogger(__name__)


class Exporter(OTLPLogExporter):
    """Sends records by OTLP and keeps the status of the Collector's answer.

    Args:
        endpoint: the Collector's address for logs.
        headers: headers of every request.
    """

    def __init__(self, endpoint: str, headers: Mapping[str, str] | None = None) -> None:
        self._status = 0
        session = requests.Session()
        session.hooks["response"] = [self._answered]
        super().__init__(endpoint, headers=dict(headers or {}), session=session)

    def export(self, batch: Sequence[ReadableLogRecord]) -> LogRecordExportResult:
        """Send records; blocks for up to OTEL_EXPORTER_OTLP_LOGS_TIMEOUT."""
        self._status = 0
        return super().export(batch)

    @property
    def refused(self) -> int:
        """The status of the last export if the Collector refused its content, else 0."""
        permanent = 400 <= self._status < 500 and self._status not in _RETRIED
        return self._status if permanent else 0

    def _answered(self, response: requests.Response, *_: Any, **__: Any) -> None:
        self._status = response.status_code


class Follower:
    """Follows containers, one thread each, and sends their lines from another thread.

    Args:
        settings: the platform's settings.
        engine: Docker.
        store: stores the position in each log.
        exporter: sends lines.

    Raises:
        ConfigError: a pattern of secrets in the settings is invalid.
    """

    def __init__(
        self, settings: Settings, engine: Engine, store: Store, exporter: Exporter
    ) -> None:
        self._settings = settings
        self._engine = engine
        self._store = store
        self._exporter = exporter
        self._redactor = Redactor.from_env(settings.environ)
        self._lock = threading.Lock()
        self._streams: dict[str, Any] = {}
        # Read, but maybe not sent yet: a container that starts again is followed from there.
        self._read_until: dict[str, str] = {}
        # Start times, by container, of runs whose logs were read after their end.
        self._ended: dict[str, str] = {}
        self._buffer = LineBuffer()
        self._stopping = threading.Event()
        self._sender = threading.Thread(target=self._send, name="platform-logs-out", daemon=True)

    def start(self) -> None:
        """Start sending."""
        self._sender.start()

    def stop(self) -> None:
        """Stop; the next process reads again what was not sent."""
        self._stopping.set()
        with self._lock:
            streams = list(self._streams.values())
        for stream in filter(None, streams):
            close_stream(stream)
        self._buffer.wake()
        self._sender.join(5.0)
        self._exporter.shutdown()  # type: ignore[no-untyped-call]

    def on_event(self, event: ContainerEvent) -> None:
        """Follow a container when it starts."""
        if event.action == "start":
            self._follow(event.handle, event.id)
        elif event.action == "destroy":
            self._read_until.pop(event.id, None)
            self._ended.pop(event.id, None)

    def follow_all(self, states: Iterable[ContainerState]) -> None:
        """Follow running containers that are not followed yet, and read the rest of the logs of
        runs that ended while no platform ran."""
        for state in states:
            if state.state == "running" or self._unread(state):
                self._follow(state.handle, state.id)

    def _unread(self, state: ContainerState) -> bool:
        if state.state not in ("exited", "dead") or not state.started_at:
            return False
        # If no platform ever saw it running, it may have ended long ago.
        record = self._store.get(state.handle)
        known = record is not None and record.container_id == state.id
        return known and self._ended.get(state.id) != state.started_at

    def _follow(self, handle: str, container_id: str) -> None:
        with self._lock:
            if container_id in self._streams or self._stopping.is_set():
                return
            self._streams[container_id] = None
        threading.Thread(
            target=self._read, args=(handle, container_id), name=f"logs-{handle}", daemon=True
        ).start()

    # --- reading: one thread for each container -------------------------------------------------

    def _read(self, handle: str, container_id: str) -> None:
        import docker

        try:
            with self._engine.connect() as client:
                container = client.containers.get(container_id)
                if by_api(container.attrs, self._settings):
                    self._read_from(client, container, handle)
                if not container.attrs["State"]["Running"]:
                    self._ended[container_id] = container.attrs["State"]["StartedAt"]
        except (TelemetryError, docker.errors.APIError) as error:
            _log.warning("logs of %s can't be followed: %s", handle, error)
        finally:
            with self._lock:
                del self._streams[container_id]

    def _read_from(self, client: Any, container: Any, handle: str) -> None:
        record = self._store.get(handle)
        sent = record.logs_until if record and record.container_id == container.id else ""
        until = max(sent, self._read_until.get(container.id, ""))
        stream = follow(client, container, to_ns(until) // 10**9 if until else None)
        with self._lock:
            self._streams[container.id] = stream
        if self._stopping.is_set():  # `stop` may have run before the stream was registered
            close_stream(stream)
        for name, at, text in lines(stream, tty=container.attrs["Config"]["Tty"]):
            # Docker takes whole seconds, so it repeats lines of this second that were sent.
            if at > until:
                self._put(Line(handle, container.id, at, text, name))

    def _put(self, line: Line) -> None:
        # If there is no room, the Collector is down; Docker keeps the lines until then.
        while not self._stopping.is_set():
            if self._buffer.put(line, RETRY_S):
                # Lines of two streams are not always in order of time.
                until = self._read_until.get(line.container_id, "")
                self._read_until[line.container_id] = max(until, line.at)
                return

    # --- sending: one thread --------------------------------------------------------------------

    def _send(self) -> None:
        while not self._stopping.is_set():
            if not self._buffer.wait(RETRY_S):
                continue
            self._stopping.wait(GATHER_S)
            batch = self._buffer.take()
            if not self._deliver([record_of(entry, self._redactor) for entry in entries(batch)]):
                return
            last = {line.container_id: line for line in sorted(batch, key=lambda line: line.at)}
            for line in last.values():
                self._store.save_logs_until(line.handle, line.container_id, line.at)

    def _deliver(self, records: Sequence[ReadableLogRecord]) -> bool:
        """Send records until they have arrived; returns False if the follower is stopped first.

        A record whose content the Collector refuses is dropped, so that it does not block the
        others."""
        while self._exporter.export(records) is not LogRecordExportResult.SUCCESS:
            if status := self._exporter.refused:
                if len(records) == 1:
                    metrics.dropped("logs", "refused")
                    handle = records[0].resource.attributes[HANDLE_LABEL]
                    _log.warning("an entry of %s was dropped: refused with %d", handle, status)
                    return True
                half = len(records) // 2
                return self._deliver(records[:half]) and self._deliver(records[half:])
            if self._stopping.wait(RETRY_S):
                return False
        return True


def by_api(attrs: Mapping[str, Any], settings: Settings) -> bool:
    """Tell whether a container's logs must be followed through Docker's API: the Collector can't
    read them with their handle, and the container does not send them itself.

    Args:
        attrs: the answer of Docker's inspect.
        settings: the platform's settings.
    """
    if (attrs["Config"].get("Labels") or {}).get(LOGS_LABEL) == "otlp":
        return False
    config = attrs["HostConfig"]["LogConfig"]
    labels = (config.get("Config") or {}).get("labels", "").split(",")
    if config["Type"] != "json-file" or HANDLE_LABEL not in labels:
        return True
    path = Path(attrs["LogPath"])
    if settings.tailed is not None:
        # The Collector reads this folder, on whatever machine it runs.
        return not path.is_relative_to(settings.tailed)
    # Otherwise a Collector on this machine reads Docker's folder, as the same user.
    return not path.is_relative_to(DOCKER_CONTAINERS) or not os.access(path, os.R_OK)
