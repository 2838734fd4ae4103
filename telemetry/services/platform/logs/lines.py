"""Lines that containers print: how they come from Docker, and what becomes of them."""

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

# Of a longer line the rest is left out: 1 MiB, Loki's own limit, with room to say so.
LINE_BYTES = (1 << 20) - 64
WAITING = 2000  # lines of all containers that wait to be sent; then their readers wait
WAITING_BYTES = 32 << 20
BATCH = 500
# The collector takes 20 MiB at once, but looks through a MiB or two a second for secrets, and an
# export that takes 10 s is tried again.
BATCH_BYTES = 1 << 20
# https://docs.docker.com/reference/api/engine/version/v1.47/#tag/Container/operation/ContainerAttach
_HEADER = struct.Struct(">BxxxL")
_STREAMS = {1: "stdout", 2: "stderr"}
_SCOPE = InstrumentationScope("telemetry.platform")
# As collector/config.yaml has them, so that a line looks the same whichever way it came.
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
# What is called a level is it; only where nothing is, the first word that could be one.
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
        handle: whose.
        container_id: which container's.
        at: Docker's time of it, RFC 3339 with nine digits.
        text: without the line feed.
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
    """What a container prints, until it ends: a ``docker.types.CancellableStream`` of streams'
    names and their bytes. Docker's SDK has the same without the names.

    Args:
        client: a ``docker.DockerClient``.
        container: one of its containers.
        since_s: seconds since the epoch; None from the beginning.

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
        timeout=None,  # it may be silent for days
    )
    try:
        response.raise_for_status()
    except requests.HTTPError as error:
        docker.errors.create_api_error_from_http_exception(error)  # raises it
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


class _Text:
    """A line as its pieces come."""

    def __init__(self) -> None:
        self._kept = bytearray()
        self._cut = 0

    def add(self, piece: bytes) -> None:
        room = LINE_BYTES - len(self._kept)
        self._kept += piece[:room]
        self._cut += max(0, len(piece) - room)

    def take(self) -> str:
        """The line, which ends here; the next one begins."""
        text = self._kept.decode(errors="replace").rstrip("\r\n")
        if self._cut:
            text += f" … [{self._cut} bytes cut]"
        self._kept.clear()
        self._cut = 0
        return text


def lines(stream: Iterable[tuple[str, bytes]], *, tty: bool) -> Iterator[tuple[str, str, str]]:
    """Streams' names, times and texts of the lines in what `follow` found. A line that came in
    pieces has the time of its last one: by these it is known how far all was read.

    Args:
        stream: without a terminal each is a message, of which long lines take several, each with
            a time of its own; with one, they are cut anywhere.
        tty: whether the container has a terminal.
    """
    texts: dict[str, _Text] = defaultdict(_Text)
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


# --- on their way ---------------------------------------------------------------------------


class Waiting:
    """Lines of all containers that wait to be sent, bounded in number and in size."""

    def __init__(self) -> None:
        self._lines: deque[Line] = deque()
        self._size = 0
        lock = threading.Lock()
        self._some = threading.Condition(lock)
        self._room = threading.Condition(lock)

    def put(self, line: Line, timeout_s: float) -> bool:
        """Add a line; False where there was no room for it in that time."""
        with self._room:
            if not self._room.wait_for(self._has_room, timeout_s):
                return False
            self._lines.append(line)
            self._size += line.size
            self._some.notify()
        return True

    def wait(self, timeout_s: float) -> bool:
        """Whether there is a line, within that time."""
        with self._some:
            if not self._lines:
                self._some.wait(timeout_s)
            return bool(self._lines)

    def wake(self) -> None:
        """Have who waits look again."""
        with self._some:
            self._some.notify_all()

    def take(self) -> list[Line]:
        """A batch of them, first come first, which are no longer here."""
        found: list[Line] = []
        size = 0
        with self._room:
            while self._lines and len(found) < BATCH and size < BATCH_BYTES:
                found.append(self._lines.popleft())
                size += found[-1].size
            self._size -= size
            self._room.notify_all()
        return found

    def _has_room(self) -> bool:
        return len(self._lines) < WAITING and self._size < WAITING_BYTES


# --- what they become -----------------------------------------------------------------------


def entries(batch: Iterable[Line]) -> list[Line]:
    """Lines with what belongs to them: a stack trace is one entry."""
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
    """An entry as the collector would have made it of a file's, without secrets."""
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
