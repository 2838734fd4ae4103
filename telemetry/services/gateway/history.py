"""What was said, by session: the shell's history, and what the model is reminded of.

Held in memory and kept in a file a session, secrets taken out, so that a restart forgets
nothing; a file that can't be written costs the memory of it, never an answer.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections import OrderedDict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from telemetry.redaction import redact

SESSIONS_KEPT = 200
TURNS_KEPT = 100
MODEL_TURNS = 10  # what a model is reminded of; a judgement
TITLE_CHARS = 80

_KEYS = ("id", "prompt", "answer", "at")
_log = logging.getLogger(__name__)
Turn = dict[str, Any]
"""``id``, ``prompt``, ``answer``, ``at`` (UTC), and the facts of its end once they are known."""


class History:
    """The sessions.

    Args:
        folder: where they are kept; made where missing.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._sessions: OrderedDict[str, list[Turn]] = OrderedDict()
        self._lock = asyncio.Lock()
        self._load()

    def turns(self, session: str) -> list[Turn]:
        """A session's, oldest first."""
        return list(self._sessions.get(session, ()))

    def reminder(self, session: str) -> list[tuple[str, str]]:
        """The session's last turns as (role, text) pairs, those without an answer left out."""
        answered = [turn for turn in self._sessions.get(session, ()) if turn["answer"].strip()]
        return [
            pair
            for turn in answered[-MODEL_TURNS:]
            for pair in (("user", turn["prompt"]), ("assistant", turn["answer"]))
        ]

    def sessions(self) -> list[dict[str, str]]:
        """Id, title and time of each, the newest first."""
        return [
            {"id": session, "title": _title(turns[0]["prompt"]), "at": turns[-1]["at"]}
            for session, turns in reversed(self._sessions.items())
        ]

    def add(self, session: str, number: str, prompt: str, answer: str) -> Turn:
        """A turn has ended; its facts may be added to what is returned, then `save` it."""
        turn: Turn = {
            "id": number,
            "prompt": redact(prompt),
            "answer": redact(answer),
            "at": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        }
        turns = self._sessions.setdefault(session, [])
        self._sessions.move_to_end(session)
        turns.append(turn)
        del turns[:-TURNS_KEPT]
        return turn

    async def save(self, session: str) -> None:
        """Keep a session's turns, and no more sessions than are meant to be. Never raises."""
        async with self._lock:  # what is older must not be written last
            text = json.dumps(self._sessions.get(session, ()), ensure_ascii=False)
            gone = []
            while len(self._sessions) > SESSIONS_KEPT:
                gone.append(self._sessions.popitem(last=False)[0])
            try:
                await asyncio.to_thread(self._write, session, text, gone)
            except (OSError, ValueError) as error:  # a full disk; text that is no Unicode
                _log.error("a session's history could not be kept: %s", error)

    def _write(self, session: str, text: str, gone: list[str]) -> None:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        fresh = self._folder / f"{session}.{os.urandom(4).hex()}.new"
        try:
            with open(os.open(fresh, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
                file.write(text)
            fresh.replace(self._folder / f"{session}.json")
        finally:
            fresh.unlink(missing_ok=True)
        for other in gone:
            (self._folder / f"{other}.json").unlink(missing_ok=True)

    def _load(self) -> None:
        files = sorted(self._folder.glob("*.json"), key=lambda path: path.stat().st_mtime)
        for path in files[-SESSIONS_KEPT:]:
            try:
                turns = json.loads(path.read_text())
                if turns and all(isinstance(turn[key], str) for turn in turns for key in _KEYS):
                    self._sessions[path.stem] = turns
            except (OSError, ValueError, KeyError, TypeError) as error:
                _log.warning("%s can't be read, so its session is forgotten: %s", path, error)


def _title(prompt: str) -> str:
    line = " ".join(prompt.split())
    return line if len(line) <= TITLE_CHARS else f"{line[:TITLE_CHARS].rstrip()}…"
