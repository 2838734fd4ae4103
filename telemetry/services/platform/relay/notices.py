"""Log what containers do to the relay, without letting them fill the log."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Hashable
from typing import Any

from aiohttp.http_exceptions import HttpProcessingError

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

    def warn(self, subject: Hashable, message: str, error: BaseException | None = None) -> None:
        """Log ``message`` unless one about the same subject was logged lately.

        Args:
            subject: what it is about.
            message: the line to log.
            error: its traceback is logged, too.
        """
        now = self._clock()
        logged_at, repeated = self._subjects.get(subject, (-INTERVAL_S, 0))
        if now - logged_at < INTERVAL_S:
            self._subjects[subject] = (logged_at, repeated + 1)
            return
        if len(self._subjects) >= MAX_SUBJECTS:
            self._subjects.clear()
        self._subjects[subject] = (now, 0)
        more = f" (and {repeated} times before)" if repeated else ""
        self._log.warning("%s%s", message, more, exc_info=error)


class ServerLog(logging.LoggerAdapter[logging.Logger]):
    """aiohttp's log of failed requests, of which a client can cause any number.

    Args:
        log: where to.
    """

    def __init__(self, log: logging.Logger) -> None:
        super().__init__(log)
        self._notices = Notices(log)

    def exception(self, msg: object, *args: object, exc_info: Any = True, **options: Any) -> None:
        """Log a failed request; with a traceback, unless it is the client's fault."""
        is_clients = isinstance(exc_info, HttpProcessingError)
        error = exc_info if isinstance(exc_info, BaseException) and not is_clients else None
        said = str(msg) % args if args else str(msg)
        self._notices.warn(type(exc_info).__name__, f"relay: {said}: {exc_info!r}", error)
