"""Lines that containers print: read from Docker, buffered, converted to log records."""

from __future__ import annotations

import re
import struct
import threading
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from telemetry.redaction import Redactor
from telemetry.services.platform.sampling.timestamps import to_ns
from telemetry.services.platform.state.desired import HANDLE_LABEL

# A longer line is cut: 1 MiB is Loki's limit, less room for a note about the cut.
MAX_LINE_BYTES = (1 << 20) - 64
MAX_BUFFERED_LINES = 2000  # of all containers; beyond that, readers wait
MAX_BUFFERED_BYTES = 32 << 20
BATCH_LINES = 500
# The Collector accepts 20 MiB at once, but scans only 1 to 2 MiB/s for secrets, and an export that
# takes 10 s is retried.
BATCH_BYTES = 1 << 20
# https://docs.docker.com/reference/api/engine/version/v1.47/#tag/Container/operation/ContainerAttach
_HEADER = struct.Struct(">BxxxL")
_STREAMS = {1: "stdout", 2: "stderr"}
_SCOPE = InstrumentationScope("telemetry.platform")
# The same as in collector/config.yaml, so that a line looks the same either way.
_CONTINUED = re.compile(
    r"\s|Traceback |Caused by: |\.\.\. \d+ more|During handling of |The above exception |"
    r"[A-Za-z_][\w.]*(Error|Exception|Interrupt|Exit)(:|$)|"
    r"[A-Za-z0-9+/]{64}$|-----END ",
    re.ASCII,
)
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
_WORD = "|".join(_SEVERITY)
# The value of a level field; if there is none, the first word that is a level.
_LEVELS = (
    re.compile(
        r"\b(?:level|levelname|severity|lvl)[\"']?\s*[:=]\s*[\"']?"
        rf"(?P<found>{_WORD})\b",
        re.IGNORECASE | re.ASCII,
    ),
    re.compile(rf"\b(?P<found>{_WORD})\b", re.IGNORECASE | re.ASCII),
)


@dataclass(frozen=True)
class Line:
    """A line that a container printed.

    Args:
        handle: the container's handle.
        container_id: the container's id.
        at: Docker's time of the line, RFC 3339 with nine digits.
        text: the line without its line feed.
        stream: stdout or stderr.
    """

    handle: str
    container_id: str
    at: str
    text: str
    stream: str = "stdout"

    @cached_property
    def size(self) -> int:
        """Bytes of the text."""
        return len(self.text.encode())


# --- from Docker ----------------------------------------------------------------------------


def follow(client: Any, container: Any, since_s: int | None) -> Any:
    """Follow a container's output until it ends.

    Returns a ``docker.types.CancellableStream`` of stream names and bytes. The method of Docker's
    SDK does not return the names.

    Args:
        client: a ``docker.DockerClient``.
        container: one of its containers.
        since_s: seconds since the epoch; None for all output.

    Raises:
        docker.errors.APIError: Docker refuses.
    """
    import docker
    import requests

    api = client.api
    params = {"stdout": 1, "stderr": 1, "follow": 1, "timestamps": 1, "since": since_s}
    response = api.get(
        f"{api.base_url}/v{api.api_version}/containers/{container.id}/logs",
        params=params,
        stream=True,
        timeout=None,  # a container may print nothing for days
    )
    try:
        response.raise_for_status()
    except requests.HTTPError as error:
        docker.errors.create_api_error_from_http_exception(error)  # always raises
    found: Iterator[tuple[str, bytes]]
    if container.attrs["Config"]["Tty"]:
        found = (("stdout", chunk) for chunk in response.iter_content(None))
    else:
        found = _messages(response.raw)
    return docker.types.CancellableStream(found, response)


def _messages(raw: Any) -> Iterator[tuple[str, bytes]]:
    while len(header := raw.read(_HEADER.size)) == _HEADER.size:
        number, size = _HEADER.unpack(header)
        yield _STREAMS.get(number, "stdout"), raw.read(size)


class _PartialLine:
    """A line assembled from pieces."""

    def __init__(self) -> None:
        self._kept = bytearray()
        self._cut = 0

    def add(self, piece: bytes) -> None:
        room = MAX_LINE_BYTES - len(self._kept)
        self._kept += piece[:room]
        self._cut += max(0, len(piece) - room)

    def take(self) -> str:
        """Return the line and start the next one."""
        text = self._kept.decode(errors="replace").rstrip("\r\n")
        if self._cut:
            text += f" … [{self._cut} bytes cut]"
        self._kept.clear()
        self._cut = 0
        return text


def lines(stream: Iterable[tuple[str, bytes]], *, tty: bool) -> Iterator[tuple[str, str, str]]:
    """Yield stream name, time and text of each line.

    A line in several pieces has the time of its last one, since times are used as the position in
    the log.

    Args:
        stream: the output of `follow`. Without a terminal each item is a message with a time, and a
            long line takes several; with a terminal, items end anywhere.
        tty: whether the container has a terminal.
    """
    texts: dict[str, _PartialLine] = defaultdict(_PartialLine)
    for name, piece in stream:
        text = texts[name]
        if tty:
            *ended, rest = piece.split(b"\n")
            for end in ended:
                text.add(end.rstrip(b"\r"))
                at, _, said = text.take().partition(" ")
                yield name, at, said
            text.add(rest)
        else:
            time, _, message = piece.partition(b" ")
            text.add(message.rstrip(b"\r\n") if message.endswith(b"\n") else message)
            if message.endswith(b"\n"):
                yield name, time.decode(), text.take()


# --- the buffer -----------------------------------------------------------------------------


class LineBuffer:
    """Lines of all containers to be sent, bounded in number and in size."""

    def __init__(self) -> None:
        self._lines: deque[Line] = deque()
        self._size = 0
        lock = threading.Lock()
        self._not_empty = threading.Condition(lock)
        self._not_full = threading.Condition(lock)

    def put(self, line: Line, timeout_s: float) -> bool:
        """Add a line; returns False if there was no room within the timeout."""
        with self._not_full:
            if not self._not_full.wait_for(self._has_room, timeout_s):
                return False
            self._lines.append(line)
            self._size += line.size
            self._not_empty.notify()
        return True

    def wait(self, timeout_s: float) -> bool:
        """Wait for a line; returns False if there is none within the timeout."""
        with self._not_empty:
            if not self._lines:
                self._not_empty.wait(timeout_s)
            return bool(self._lines)

    def wake(self) -> None:
        """Make `wait` return now."""
        with self._not_empty:
            self._not_empty.notify_all()

    def take(self) -> list[Line]:
        """Remove and return a batch of lines, oldest first."""
        found: list[Line] = []
        size = 0
        with self._not_full:
            while self._lines and len(found) < BATCH_LINES and size < BATCH_BYTES:
                found.append(self._lines.popleft())
                size += found[-1].size
            self._size -= size
            self._not_full.notify_all()
        return found

    def _has_room(self) -> bool:
        return len(self._lines) < MAX_BUFFERED_LINES and self._size < MAX_BUFFERED_BYTES


# --- log records ----------------------------------------------------------------------------


def entries(batch: Iterable[Line]) -> list[Line]:
    """Join lines that belong together: a stack trace is one entry."""
    found: list[Line] = []
    last: dict[tuple[str, str], int] = {}
    for line in batch:
        source = line.container_id, line.stream
        index = last.get(source)
        if index is not None and (not line.text or _CONTINUED.match(line.text)):
            first = found[index]
            text = f"{first.text}\n{line.text}"
            found[index] = Line(first.handle, first.container_id, first.at, text, first.stream)
        else:
            last[source] = len(found)
            found.append(line)
    return found


def record_of(entry: Line, redactor: Redactor) -> ReadableLogRecord:
    """Convert an entry to a log record like the Collector's, with secrets redacted."""
    matches = (pattern.search(entry.text) for pattern in _LEVELS)
    level = next((match["found"].lower() for match in matches if match), None)
    return ReadableLogRecord(
        LogRecord(
            timestamp=to_ns(entry.at),
            severity_number=_SEVERITY[level] if level else SeverityNumber.UNSPECIFIED,
            severity_text=level,
            body=redactor.text(entry.text),
            attributes={"log.source": "container", "log.iostream": entry.stream},
        ),
        Resource({"service.name": "container", HANDLE_LABEL: entry.handle}),
        _SCOPE,
    )
