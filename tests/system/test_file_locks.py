"""Locks between processes and threads."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from telemetry.system import file_locks


def test_held_lock_is_refused_to_others_until_it_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert not file_locks.is_locked(path)
    assert not path.exists()
    held = file_locks.hold(path)
    assert file_locks.is_locked(path)
    with pytest.raises(BlockingIOError):
        file_locks.hold(path)
    os.close(held)
    assert not file_locks.is_locked(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    os.close(file_locks.hold(path))


def test_checking_a_lock_does_not_release_it(tmp_path: Path) -> None:
    held = file_locks.hold(tmp_path / "lock")
    assert [file_locks.is_locked(tmp_path / "lock") for _ in range(3)] == [True] * 3
    os.close(held)


def test_thread_waits_until_another_releases_the_lock(tmp_path: Path) -> None:
    seen: list[str] = []

    def second() -> None:
        with file_locks.locked(tmp_path / "lock"):
            seen.append("second")

    with file_locks.locked(tmp_path / "lock"):
        thread = threading.Thread(target=second)
        thread.start()
        seen.append("first")
    thread.join(10)
    assert seen == ["first", "second"]


def test_shared_lock_admits_only_shared_holders(tmp_path: Path) -> None:
    with (
        file_locks.locked(tmp_path / "lock", shared=True),
        file_locks.locked(tmp_path / "lock", shared=True),
        pytest.raises(BlockingIOError),
    ):
        file_locks.hold(tmp_path / "lock")
    os.close(file_locks.hold(tmp_path / "lock"))


def test_writes_through_a_locked_descriptor_are_appended(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("one\n")
    with file_locks.locked(tmp_path / "log") as fd:
        os.write(fd, b"two\n")
    assert (tmp_path / "log").read_text() == "one\ntwo\n"


_FORKING = """
import os, sys
from pathlib import Path
from telemetry.system import file_locks
file_locks.claim(Path(sys.argv[1]))
print("claimed", flush=True)
os.read(0, 1)
if os.fork() == 0:
    os.read(0, 1)  # until the test closes its end
"""


def test_claim_is_released_when_its_process_ends_even_if_a_fork_lives(tmp_path: Path) -> None:
    path = tmp_path / "worker.lock"
    with subprocess.Popen(
        [sys.executable, "-c", _FORKING, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"claimed\n"
        with file_locks.abandoned(path) as dead:
            assert not dead
        process.stdin.write(b"x")
        process.stdin.flush()
        process.wait()
        with file_locks.abandoned(path) as dead:
            assert dead


def test_missing_file_is_not_abandoned(tmp_path: Path) -> None:
    with file_locks.abandoned(tmp_path / "lock") as dead:
        assert not dead
    assert not (tmp_path / "lock").exists()


def test_lock_that_cannot_be_opened_counts_as_held(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert file_locks.is_locked(tmp_path / "file" / "lock")
