"""The turns of each session, for the web shell and as the model's context.

They are held in memory and stored in one file for each session, with secrets redacted. If a file
can't be written, the turns are lost at a restart, but the answer is not affected. If
TELEMETRY_PROMPTS is off, nothing is stored.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import OrderedDict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from telemetry.redaction import redact
from telemetry.system.atomic_files import replace_file

MAX_SESSIONS = 200
MAX_TURNS = 100
CONTEXT_TURNS = 10  # sent to the model; chosen by judgement, not measured
TITLE_CHARS = 80

_KEYS = ("id", "prompt", "answer", "at")
_log = logging.getLogger(__name__)
Turn = dict[str, Any]
"""``id``, ``prompt``, ``answer``, ``at`` (UTC), and the facts of its end once known."""


class History:
    """The sessions.

    Args:
        folder: where they are stored; created if missing. None for memory only.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._sessions: OrderedDict[str, list[Turn]] = OrderedDict()
        self._lock = asyncio.Lock()
        if folder is not None:
            self._load(folder)

    def turns(self, session: str) -> list[Turn]:
        """Return a session's turns, oldest first."""
        return list(self._sessions.get(session, ()))

    def context(self, session: str) -> list[tuple[str, str]]:
        """Return the session's last answered turns as (role, text) pairs."""
        answered = [turn for turn in self._sessions.get(session, ()) if turn["answer"].strip()]
        return [
            pair
            for turn in answered[-CONTEXT_TURNS:]
            for pair in (("user", turn["prompt"]), ("assistant", turn["answer"]))
        ]

    def sessions(self) -> list[dict[str, str]]:
        """Return id, title and time of each session, newest first."""
        return [
            {"id": session, "title": _title(turns[0]["prompt"]), "at": turns[-1]["at"]}
            for session, turns in reversed(self._sessions.items())
        ]

    def add(self, session: str, number: str, prompt: str, answer: str) -> Turn:
        """Add a turn that has ended. Add its facts to the returned turn, then call `save`."""
        turn: Turn = {
            "id": number,
            "prompt": redact(prompt),
            "answer": redact(answer),
            "at": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        }
        turns = self._sessions.setdefault(session, [])
        self._sessions.move_to_end(session)
        turns.append(turn)
        del turns[:-MAX_TURNS]
        return turn

    async def save(self, session: str) -> None:
        """Store a session's turns, and delete the oldest sessions over the limit. Never raises."""
        async with self._lock:  # an older version must not be written last
            text = json.dumps(self._sessions.get(session, ()), ensure_ascii=False)
            gone = []
            while len(self._sessions) > MAX_SESSIONS:
                gone.append(self._sessions.popitem(last=False)[0])
            if self._folder is None:
                return
            try:
                await asyncio.to_thread(_write, self._folder, session, text, gone)
            except (OSError, ValueError) as error:  # a full disk; text that is not Unicode
                _log.error("a session's history could not be stored: %s", error)

    def _load(self, folder: Path) -> None:
        files = sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime)
        for path in files[-MAX_SESSIONS:]:
            try:
                turns = json.loads(path.read_text("utf-8"))
                if turns and all(isinstance(turn[key], str) for turn in turns for key in _KEYS):
                    self._sessions[path.stem] = turns
            except (OSError, ValueError, KeyError, TypeError) as error:
                _log.warning("%s can't be read, so its session is lost: %s", path, error)


def _write(folder: Path, session: str, text: str, gone: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    replace_file(folder / f"{session}.json", text, durable=True)
    for other in gone:
        (folder / f"{other}.json").unlink(missing_ok=True)


def _title(prompt: str) -> str:
    line = " ".join(prompt.split())
    return line if len(line) <= TITLE_CHARS else f"{line[:TITLE_CHARS].rstrip()}…"
