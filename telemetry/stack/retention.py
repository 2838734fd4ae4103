"""One setting for how long and how much: TELEMETRY_RETENTION_DAYS and TELEMETRY_RETENTION_GB.

Prometheus knows both limits. Loki knows days only, so its days are shortened while what it
keeps is more than its share.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from telemetry.settings.stack import StackSettings
from telemetry.stack.state_folder import StateFolder
from telemetry.system.atomic_files import replace_file

CHECK_S = 600.0  # as often as Loki's compactor looks
# Loki deletes by whole index days; less than one can't be had.
LEAST_HOURS = 24


def fitting_hours(
    files: Iterable[tuple[float, int]], now: float, limit_bytes: int, most_hours: int
) -> int:
    """For how many hours back everything fits into ``limit_bytes``.

    Args:
        files: time of writing (seconds since the epoch) and size in bytes of each.
        now: seconds since the epoch.
        limit_bytes: what may be used.
        most_hours: the answer where all of it fits.

    Returns:
        Hours, at least LEAST_HOURS.
    """
    total = 0
    for written, size in sorted(files, reverse=True):
        total += size
        if total > limit_bytes:
            return max(LEAST_HOURS, min(most_hours, int((now - written) / 3600)))
    return max(LEAST_HOURS, most_hours)


def limit_loki(folder: StateFolder, settings: StackSettings) -> int:
    """Set Loki's retention to what its share of the disk holds; it reads the file by itself.

    Returns:
        The hours that are kept.
    """
    files = []
    for path in (folder.data / "loki" / "chunks").rglob("*"):
        try:
            status = path.stat()
        except FileNotFoundError:
            continue  # the compactor was quicker
        if path.is_file():
            files.append((status.st_mtime, status.st_size))
    hours = fitting_hours(
        files, time.time(), settings.store_mib << 20, settings.retention_days * 24
    )
    replace_file(folder.loki_runtime, f"overrides: {{fake: {{retention_period: {hours}h}}}}\n")
    return hours
