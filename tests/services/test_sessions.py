"""Log-in sessions: their expiry, their file, and their end."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from telemetry.services.sessions import IDLE_S, LIFETIME_S, MAX_SESSIONS, Sessions


@dataclass
class Clock:
    now: float = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "logins.json"


def test_unused_session_expires(path: Path, clock: Clock) -> None:
    sessions = Sessions(path, "secret", clock)
    token = sessions.open("127.0.0.1")
    clock.now += IDLE_S
    assert sessions.find(token)
    clock.now += IDLE_S + 1
    assert sessions.find(token) is None
    assert sessions.all() == []


def test_used_session_expires_at_the_end_of_its_lifetime(path: Path, clock: Clock) -> None:
    sessions = Sessions(path, "secret", clock)
    token = sessions.open("127.0.0.1")
    began = clock.now
    while clock.now + 3600 <= began + LIFETIME_S:
        clock.now += 3600
        assert (session := sessions.find(token))
    clock.now = began + LIFETIME_S + 1
    assert not sessions.is_open(session)
    assert sessions.find(token) is None


def test_sessions_survive_a_restart_as_hashes_in_a_private_file(path: Path, clock: Clock) -> None:
    token = Sessions(path, "secret", clock).open("127.0.0.1")
    assert path.stat().st_mode & 0o777 == 0o600
    assert token not in path.read_text()
    assert token.removeprefix("session-") not in path.read_text()
    (session,) = (again := Sessions(path, "secret", clock)).all()
    found = again.find(token)
    assert found is not None
    assert found.id == session.id
    assert again.find(session.digest) is again.find(session.id) is None
    assert Sessions(path, "another", clock).find(token) is None


@pytest.mark.parametrize("content", ["", "{", "[1]", "{}", '[{"id": "x"}]', '"text"'])
def test_file_that_cannot_be_read_ends_all_sessions(
    path: Path, clock: Clock, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    path.write_text(content)
    sessions = Sessions(path, "secret", clock)
    assert sessions.all() == []
    assert ("can't be read" in caplog.text) is (content != "{}")
    assert sessions.find(sessions.open("127.0.0.1"))


def test_listener_hears_of_an_ended_or_expired_session_once(path: Path, clock: Clock) -> None:
    sessions = Sessions(path, "secret", clock)
    ended: list[str] = []
    for name in ("ended", "expired", "stopped"):
        session = sessions.find(sessions.open(name))
        assert session is not None
        stop = sessions.on_end(session, lambda name=name: ended.append(name))
        if name == "stopped":
            stop()
    assert sessions.end(lambda one: one.address in ("ended", "stopped")) == 2
    assert ended == ["ended"]
    clock.now += IDLE_S + 1
    assert sessions.all() == []
    assert ended == ["ended", "expired"]


def test_number_of_sessions_is_limited(path: Path, clock: Clock) -> None:
    sessions = Sessions(path, "secret", clock)
    tokens = []
    for _ in range(MAX_SESSIONS + 1):
        tokens.append(sessions.open("127.0.0.1"))
        clock.now += 1
    assert len(sessions.all()) == MAX_SESSIONS
    assert sessions.find(tokens[0]) is None
    assert sessions.find(tokens[1])


def test_disk_that_is_full_does_not_prevent_a_log_in(
    path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    sessions = Sessions(path.parent / "missing" / "logins.json", "secret", clock)
    assert sessions.find(sessions.open("127.0.0.1"))
    assert "could not be stored" in caplog.text
