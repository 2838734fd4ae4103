"""Convert Docker's times: RFC 3339 with nanoseconds, and the year 1 for never."""

from __future__ import annotations

from datetime import UTC, datetime

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def to_ns(text: str) -> int:
    """Convert to Unix nanoseconds, cut to whole microseconds; 0 for never and for "".

    Args:
        text: e.g. ``2026-02-03T04:05:06.123456789Z``.
    """
    if not text or text.startswith("0001-"):
        return 0
    passed = datetime.fromisoformat(text) - _EPOCH
    return (passed.days * 86_400 + passed.seconds) * 10**9 + passed.microseconds * 1000


def to_seconds(ns: int) -> str:
    """Format as the engine's API takes times: seconds with nine decimals."""
    return f"{ns // 10**9}.{ns % 10**9:09d}"
