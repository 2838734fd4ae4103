"""File locks between processes. The kernel releases the locks of a dead process.

Most use `flock`: the lock belongs to the open file, so two threads of one process exclude each
other too. `claim` uses `lockf`: the lock belongs to the process.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def hold(path: Path) -> int:
    """Lock a file until the descriptor is closed, or this process and its forks have ended.

    Args:
        path: the file; created if missing, with mode 0600.

    Returns:
        The descriptor, open for reading and appending.

    Raises:
        BlockingIOError: the lock is held already.
        OSError: the file can't be opened.
    """
    fd = _open(path)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(fd)
        raise
    return fd


@contextmanager
def locked(path: Path, *, shared: bool = False) -> Iterator[int]:
    """Wait for the lock, and hold it in the block. Gives the descriptor, as `hold` does.

    Args:
        path: the file; created if missing, with mode 0600.
        shared: take a shared lock, which several holders may have at the same time.
    """
    fd = _open(path)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield fd
    finally:
        os.close(fd)


def is_locked(path: Path) -> bool:
    """Check whether the file's lock is held.

    Returns:
        False if the file doesn't exist; True if it can't be opened, since it is another user's.
    """
    try:
        fd = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(fd)
    return False


def claim(path: Path) -> int:
    """Lock a file for the lifetime of this process; forked children don't hold the lock.

    The process must not open the file again: closing any descriptor of it releases the lock.

    Args:
        path: the file; created if missing, with mode 0600.

    Returns:
        The descriptor, which must be kept open.
    """
    fd = _open(path)
    fcntl.lockf(fd, fcntl.LOCK_EX)
    return fd


@contextmanager
def abandoned(path: Path) -> Iterator[bool]:
    """Check whether the process that claimed the file is dead; if so, hold its lock in the
    block."""
    try:
        fd = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        yield False
        return
    try:
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
            return
        yield True
    finally:
        os.close(fd)


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
