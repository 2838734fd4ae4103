"""Write one JSON line for each dispatch to ``logs/{date}.jsonl``, and a copy for humans.

Each line is one append under a lock, off the event loop: lines are never torn or interleaved,
even with several workers. A failed write is counted and does not affect the dispatch.
The human-readable ``activity.log`` is rotated at 10 MB; daily files are deleted by age.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import stat
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from telemetry import catalog, metrics, redaction
from telemetry.system.file_locks import locked

PROMPT_CHARS = 500
ACTIVITY_BYTES = 10 << 20
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entry:
    """The logged facts of a dispatch; cost in USD, duration in ms."""

    source: str
    session: str
    prompt: str
    tools: list[str]
    tokens_in: int
    tokens_out: int
    cost_usd: Decimal
    duration_ms: int
    status: str
    result: str
    model: str
    trace_id: str


class InteractionLog:
    """Writes and reads the log.

    Args:
        folder: where the log is; created if missing.
        handle: handle of the container that the gateway runs in, "" if none.
        retention_days: older files are removed.
        texts: write prompts and results; otherwise they are empty.
        clock: returns the present time, in UTC.
    """

    def __init__(
        self,
        folder: Path,
        handle: str = "",
        retention_days: int = 15,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        *,
        texts: bool = True,
    ) -> None:
        self._texts = texts
        self._folder, self._handle, self._clock = folder, handle, clock
        self._retention = timedelta(days=retention_days)
        self._thread = ThreadPoolExecutor(1, "interaction-log")
        self._failures = metrics.counter(catalog.GATEWAY_INTERACTION_LOG_FAILURES)
        self._failures.touch(
            {"reason": "disk"}
        )  # start at 0, so that the first failure shows as an increase
        self._pruned = ""

    async def write(self, entry: Entry) -> None:
        """Append an entry. Never raises."""
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._write, entry)
        except Exception as error:
            reason = type(error).__name__ if not isinstance(error, OSError) else "disk"
            self._failures.add(1, {"reason": reason})
            _log.error("an interaction could not be logged: %s", error)

    async def read(self, day: date, after: int, limit: int) -> AsyncIterator[bytes]:
        """Yield the lines of a day.

        Args:
            day: a UTC day; it may have no lines.
            after: lines to skip.
            limit: most lines to yield.

        Raises:
            OSError: the file can't be read.
        """
        try:
            file = await asyncio.to_thread(open, self._folder / f"{day}.jsonl", "rb")
        except FileNotFoundError:
            return
        with file:
            while limit > 0:
                lines = await asyncio.to_thread(file.readlines, 1 << 16)
                if not lines:
                    return
                skipped = min(after, len(lines))
                after -= skipped
                for line in lines[skipped : skipped + limit]:
                    yield line
                limit -= len(lines[skipped : skipped + limit])

    def close(self) -> None:
        """Write queued lines and stop."""
        self._thread.shutdown()

    def _write(self, entry: Entry) -> None:
        now = self._clock()
        line = {
            "timestamp": now.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "source": entry.source,
            "sessionId": entry.session,
            "prompt": self._text(entry.prompt),
            "toolsUsed": entry.tools,
            "tokensIn": entry.tokens_in,
            "tokensOut": entry.tokens_out,
            # A float prints as the same decimal, up to 15 digits.
            "costUsd": float(entry.cost_usd),
            "durationMs": entry.duration_ms,
            "status": entry.status,
            "result": self._text(entry.result),
            "handle": self._handle,
            "model": entry.model,
            "traceId": entry.trace_id,
        }
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        text = json.dumps(line, ensure_ascii=False)
        append(self._folder / f"{now:%Y-%m-%d}.jsonl", text.encode() + b"\n")
        readable = _readable(line).encode() + b"\n"
        append(self._folder / "activity.log", readable, ACTIVITY_BYTES)
        self._prune(now)

    def _text(self, text: str) -> str:
        return redaction.redact(text)[:PROMPT_CHARS] if self._texts else ""

    def _prune(self, now: datetime) -> None:
        today = f"{now:%Y-%m-%d}"
        if self._pruned == today:
            return
        self._pruned = today
        oldest = f"{now - self._retention:%Y-%m-%d}"
        for path in self._folder.glob("????-??-??.jsonl"):
            if path.stem < oldest:
                path.unlink(missing_ok=True)


def append(path: Path, data: bytes, rotate_bytes: int = 0) -> None:
    """Append all of ``data``, or nothing.

    Args:
        path: the file; created if missing.
        data: what to append.
        rotate_bytes: a file of this size or more is renamed to ``path.1`` first; 0 for never.

    Raises:
        OSError: it could not be written; the file is unchanged.
    """
    while True:
        with locked(path) as fd:
            # Another process may have renamed it while this one waited for the lock.
            if not rotate_bytes or _is_at(fd, path):
                before = os.fstat(fd).st_size
                if not rotate_bytes or before < rotate_bytes:
                    _write_whole(fd, data, before, path)
                    return
                path.replace(f"{path}.1")


def _is_at(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except FileNotFoundError:
        return False


def _write_whole(fd: int, data: bytes, before: int, path: Path) -> None:
    try:
        written = os.write(fd, data)
        if written != len(data):
            raise OSError(f"{path}: only {written} of {len(data)} bytes fitted")
    except OSError:
        if stat.S_ISREG(os.fstat(fd).st_mode):
            os.ftruncate(fd, before)
        raise


def _readable(line: dict[str, Any]) -> str:
    prompt = " ".join(line["prompt"].split())[:120]
    tools = f" [{', '.join(line['toolsUsed'])}]" if line["toolsUsed"] else ""
    return (
        f"{line['timestamp']} {line['status'].upper():<9} {line['source']:<4} "
        f"{line['durationMs'] / 1000:.1f}s ${line['costUsd']:.6f} "
        f"{line['tokensIn']}+{line['tokensOut']} tokens{tools} {prompt!r} "
        f"session={line['sessionId']} trace={line['traceId']}"
    )
