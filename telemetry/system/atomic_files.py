"""Write a file whole or not at all, whoever reads it meanwhile."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def replace_file(
    path: Path, data: str | bytes, mode: int = 0o600, *, durable: bool = False
) -> None:
    """Put a file in place: a reader finds the one before or this one, never a part of it.

    Args:
        path: where, in an existing folder.
        data: what; text is written as UTF-8.
        mode: permissions, whatever the umask is.
        durable: whether it must survive a power failure once this returns: state, which nobody
            can make again.

    Raises:
        OSError: it can't be written; what was there is unchanged.
    """
    content = data.encode() if isinstance(data, str) else data
    # A name of its own: several threads or processes may write the same file.
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}.new")
    try:
        # Closed to others from the start: a secret is in no file that they can read, ever.
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
