"""Call ids: time-ordered 63-bit integers, unique over all workers of a ledger.

41 bits of ms since 2020, 10 bits of worker, 12 bits of sequence: rows are appended to their
index instead of scattered over it, and a span of time is a range of ids.
"""

from __future__ import annotations

import time

EPOCH_MS = 1_577_836_800_000  # 2020-01-01
_LAST_MS = (1 << 41) - 1
_WORKERS = 1 << 10
_SEQUENCES = 1 << 12
_PREFIX = "call_"


def now_ms() -> int:
    """Milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def first_of(ms: int) -> int:
    """Return the lowest id of a call that starts at ``ms``; the highest id for times beyond it."""
    return min(max(0, ms - EPOCH_MS), _LAST_MS) * _WORKERS * _SEQUENCES


class Ids:
    """Make ids for one worker.

    Args:
        worker: the worker's number in the ledger.
    """

    def __init__(self, worker: int) -> None:
        self._worker = worker % _WORKERS
        self._ms = 0
        self._sequence = 0

    def next(self, ms: int) -> int:
        """Return an id for a call that starts at ``ms``."""
        if ms > self._ms:
            self._ms, self._sequence = ms, 0
        else:
            # The clock has not advanced, or went back: continue from the last ms.
            self._sequence += 1
            if self._sequence == _SEQUENCES:
                self._ms, self._sequence = self._ms + 1, 0
        return first_of(self._ms) | self._worker * _SEQUENCES | self._sequence


def text(number: int) -> str:
    """Return a call id as clients see it, e.g. ``call_0c3f…``."""
    return f"{_PREFIX}{number:016x}"


def parse(value: str) -> int | None:
    """Return the number of a call id, None if it is not one."""
    digits = value.removeprefix(_PREFIX)
    if digits == value or len(digits) != 16:
        return None
    try:
        number = int(digits, 16)
    except ValueError:
        return None
    return number if number < 1 << 63 else None
