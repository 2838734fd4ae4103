"""Log what containers do to the relay, without letting them fill the log."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Hashable

INTERVAL_S = 600
MAX_SUBJECTS = 1000  # a hostile container must not make this grow either


class Notices:
    """Log a warning at most once in ten minutes for each subject, with the number of repetitions.

    Args:
        log: where to.
        clock: monotonic seconds.
    """

    def __init__(self, log: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._clock = clock
        self._subjects: dict[Hashable, tuple[float, int]] = {}  # last logged, repeated since

    def warn(self, subject: Hashable, message: str) -> None:
        """Log ``message`` unless one about the same subject was logged lately."""
        now = self._clock()
        logged_at, repeated = self._subjects.get(subject, (-INTERVAL_S, 0))
        if now - logged_at < INTERVAL_S:
            self._subjects[subject] = (logged_at, repeated + 1)
            return
        if len(self._subjects) >= MAX_SUBJECTS:
            self._subjects.clear()
        self._subjects[subject] = (now, 0)
        self._log.warning("%s%s", message, f" (and {repeated} times before)" if repeated else "")
