"""Apply TELEMETRY_RETENTION_DAYS and TELEMETRY_RETENTION_GB to Loki.

Prometheus supports both limits itself. Loki limits only the age, so its retention is shortened
while its data exceeds its share of the disk.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from telemetry.settings.stack import StackSettings
from telemetry.stack.state_folder import StateFolder
from telemetry.system.atomic_files import replace_file

CHECK_S = 600.0  # the interval of Loki's compactor
# Loki deletes whole index days, so a day is the minimum.
LEAST_HOURS = 24


def fitting_hours(
    files: Iterable[tuple[float, int]], now: float, limit_bytes: int, most_hours: int
) -> int:
    """Return the longest retention at which all files fit into ``limit_bytes``.

    Args:
        files: modification time (seconds since the epoch) and size (bytes) of each file.
        now: seconds since the epoch.
        limit_bytes: the most that the files may use.
        most_hours: the result if all files fit.

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
    """Set Loki's retention to what fits into its share of the disk; Loki reloads the file itself.

    Returns:
        The retention in hours.
    """
    files = []
    for path in (folder.data / "loki" / "chunks").rglob("*"):
        try:
            status = path.stat()
        except FileNotFoundError:
            continue  # deleted by the compactor
        if path.is_file():
            files.append((status.st_mtime, status.st_size))
    hours = fitting_hours(
        files, time.time(), settings.store_mib << 20, settings.retention_days * 24
    )
    replace_file(folder.loki_runtime, f"overrides: {{fake: {{retention_period: {hours}h}}}}\n")
    return hours
