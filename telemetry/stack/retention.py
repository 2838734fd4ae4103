"""One setting for how long and how much: TELEMETRY_RETENTION_DAYS and TELEMETRY_RETENTION_GB.

Prometheus knows both limits. Loki knows days only, so its days are shortened while what it
keeps is more than its share.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from telemetry.settings import env as env_values
from telemetry.stack.state_folder import Layout
from telemetry.system.atomic_files import replace_file

CHECK_S = 600.0  # as often as Loki's compactor looks
# Loki deletes by whole index days; less than one can't be had.
LEAST_HOURS = 24


@dataclass(frozen=True)
class Retention:
    """How long and how much is kept.

    Args:
        days: of metrics and of logs.
        gigabytes: on disk, both stores together; each has half.
    """

    days: int
    gigabytes: int

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Retention:
        """15 days and 10 GB unless set.

        Raises:
            ConfigError: a setting isn't a number in its range.
        """
        return cls(
            env_values.integer(environ, "TELEMETRY_RETENTION_DAYS", 15, 1, 3650),
            env_values.integer(environ, "TELEMETRY_RETENTION_GB", 10, 1, 100_000),
        )

    @property
    def store_mib(self) -> int:
        """What one of the two stores may use, in MiB."""
        return self.gigabytes * 1024 // 2


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


def limit_loki(layout: Layout, retention: Retention) -> int:
    """Set Loki's retention to what its share of the disk holds; it reads the file by itself.

    Returns:
        The hours that are kept.
    """
    files = []
    for path in (layout.data / "loki" / "chunks").rglob("*"):
        try:
            status = path.stat()
        except FileNotFoundError:
            continue  # the compactor was quicker
        if path.is_file():
            files.append((status.st_mtime, status.st_size))
    hours = fitting_hours(files, time.time(), retention.store_mib << 20, retention.days * 24)
    replace_file(layout.loki_runtime, f"overrides: {{fake: {{retention_period: {hours}h}}}}\n")
    return hours
