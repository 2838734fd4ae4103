"""Log-in sessions: random tokens, stored as hashes, which expire and can be ended."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import secrets
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from telemetry.system.atomic_files import replace_file

IDLE_S = 12 * 3600
LIFETIME_S = 7 * 86400
MAX_SESSIONS = 100  # the least recently used one ends if there are more
# How exactly the file has the last use.
STORE_USE_S = 60
# Nobody can guess such a token, so a wrong one does not count as an attempt to.
PREFIX = "session-"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Session:
    """One log-in.

    Args:
        id: public; names the session in lists.
        digest: keyed hash of its token.
        address: the client's address at the log-in.
        created_s: Unix time of the log-in, in seconds.
        used_s: Unix time of the last use, in seconds.
    """

    id: str
    digest: str
    address: str
    created_s: float
    used_s: float


class Sessions:
    """The sessions of one service, kept across its restarts.

    Args:
        path: the file.
        secret: the log-in token; if it changes, all sessions end.
        clock: returns the Unix time in seconds.
    """

    def __init__(self, path: Path, secret: str, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._secret = secret.encode()
        self._clock = clock
        self._by_digest: dict[str, Session] = {}
        self._listeners: dict[str, set[Callable[[], None]]] = {}
        try:
            for raw in json.loads(path.read_text()):
                session = Session(
                    id=str(raw["id"]),
                    digest=str(raw["digest"]),
                    address=str(raw["address"]),
                    created_s=float(raw["created_s"]),
                    used_s=float(raw["used_s"]),
                )
                self._by_digest[session.digest] = session
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError, TypeError):
            _log.warning("%s can't be read: everyone must log in again", path)
        self._expire()

    def open(self, address: str) -> str:
        """Begin a session; returns its token, which is not stored."""
        self._expire()
        while len(self._by_digest) >= MAX_SESSIONS:
            self._end(min(self._by_digest.values(), key=lambda session: session.used_s))
        token = PREFIX + secrets.token_urlsafe(32)
        digest, now = self._digest(token), self._clock()
        self._by_digest[digest] = Session(secrets.token_hex(8), digest, address, now, now)
        self._save()
        return token

    def find(self, token: str) -> Session | None:
        """Return a token's session, which counts as used now; None if there is no such session."""
        session = self._by_digest.get(self._digest(token))
        if session is None:
            return None
        now = self._clock()
        if _is_expired(session, now):
            self._end(session)
            self._save()
            return None
        used = replace(session, used_s=now)
        self._by_digest[session.digest] = used
        if now - session.used_s > STORE_USE_S:
            self._save()
        return used

    def is_open(self, session: Session) -> bool:
        """Tell whether a session still is one; this does not count as a use."""
        self._expire()
        return session.digest in self._by_digest

    def all(self) -> list[Session]:
        """Return the sessions, most recently used first."""
        self._expire()
        return sorted(self._by_digest.values(), key=lambda session: -session.used_s)

    def end(self, wanted: Callable[[Session], bool]) -> int:
        """End the sessions that ``wanted`` selects, at once; returns their number."""
        ending = [session for session in self.all() if wanted(session)]
        for session in ending:
            self._end(session)
        if ending:
            self._save()
        return len(ending)

    def on_end(self, session: Session, listener: Callable[[], None]) -> Callable[[], None]:
        """Call ``listener`` when the session is ended; returns a function that stops this."""
        listeners = self._listeners.setdefault(session.id, set())
        listeners.add(listener)
        return lambda: listeners.discard(listener)

    def _expire(self) -> None:
        now = self._clock()
        for session in tuple(self._by_digest.values()):
            if _is_expired(session, now):
                self._end(session)

    def _end(self, session: Session) -> None:
        del self._by_digest[session.digest]
        for listener in tuple(self._listeners.pop(session.id, ())):
            listener()

    def _save(self) -> None:
        stored = json.dumps([asdict(session) for session in self._by_digest.values()])
        try:
            replace_file(self._path, stored)
        except OSError as error:
            _log.error("sessions could not be stored in %s: %s", self._path, error)

    def _digest(self, token: str) -> str:
        given = token.encode(errors="replace")
        return hmac.new(self._secret, given, hashlib.sha256).hexdigest()


def _is_expired(session: Session, now: float) -> bool:
    return now - session.used_s > IDLE_S or now - session.created_s > LIFETIME_S
