"""Locks between processes, kept by the kernel: a dead process holds none.

Most are `flock`'s: they belong to the open file, so that two threads of one process exclude each
other too. `claim` takes a process' own, by `lockf`.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def hold(path: Path) -> int:
    """Lock a file until the descriptor is closed or this process and its forks are gone.

    Args:
        path: made where missing, for the owner only.

    Returns:
        The descriptor, open for reading and appending.

    Raises:
        BlockingIOError: somebody holds it.
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
    """Wait for the lock and hold it meanwhile; gives the descriptor, as `hold` does.

    Args:
        path: made where missing, for the owner only.
        shared: whether others who ask for a shared lock may hold it at the same time.
    """
    fd = _open(path)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield fd
    finally:
        os.close(fd)


def is_locked(path: Path) -> bool:
    """Whether somebody holds the file's lock; nobody does where there is no such file."""
    try:
        fd = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(fd)
    return False


def claim(path: Path) -> int:
    """Lock a file for as long as this very process lives: a fork's child does not hold it.

    The process must not open the file again: closing any descriptor of it ends the lock.

    Args:
        path: made where missing, for the owner only.

    Returns:
        The descriptor, to be kept open.
    """
    fd = _open(path)
    fcntl.lockf(fd, fcntl.LOCK_EX)
    return fd


@contextmanager
def abandoned(path: Path) -> Iterator[bool]:
    """Whether the process that claimed the file is dead; if so, claimed meanwhile."""
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
