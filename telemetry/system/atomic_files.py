"""Atomic file writes: a reader never sees a partial file."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def replace_file(
    path: Path, data: str | bytes, mode: int = 0o600, *, durable: bool = False
) -> None:
    """Replace a file atomically: a reader gets the old or the new content, never a part of it.

    Args:
        path: the file, in an existing folder.
        data: its content; text is written as UTF-8.
        mode: permissions, independent of the umask.
        durable: sync to disk, so that the file survives a power failure once this returns. For
            state that can't be regenerated.

    Raises:
        OSError: the file can't be written; the old one is unchanged.
    """
    content = data.encode() if isinstance(data, str) else data
    # A unique name: several threads or processes may write the same file.
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}.new")
    try:
        # Private from the start, so that other users can never read a secret.
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content)
            os.fchmod(file.fileno(), mode)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        fresh.replace(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    if durable:
        _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Make a rename in the folder durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
