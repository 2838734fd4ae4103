"""Capture of log records in ``Logger.callHandlers``.

That is past a logger's own level and filters and before any handler, so no configuration of an
app or a server (``basicConfig``, ``dictConfig``, uvicorn's loggers that don't propagate) can
lose records or write them twice, and no handler is added that would change what is printed.

The root logger, if nobody has set its level, is lowered to the level that is exported, or an
app's ``logger.info`` would never be made; records that exist only because of that are exported
and never printed.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any

Take = Callable[[logging.LogRecord], None]

_taking: list[Take] = []


class _Lowered(int):
    """The root's level if we lowered it: an app that sets the same number means it."""


def capture(take: Take, level: int) -> None:
    """Hand every record to ``take`` from now on.

    Args:
        take: must not raise.
        level: the lowest that it wants, as in `logging`.
    """
    _taking.append(take)
    root = logging.getLogger()
    if root.level == logging.WARNING and level < root.level:
        root.setLevel(_Lowered(level))
    if not getattr(logging.Logger.callHandlers, "_telemetry", False):
        logging.Logger.callHandlers = _wrapped(  # type: ignore[method-assign]
            logging.Logger.callHandlers
        )


def release(take: Take) -> None:
    """Hand it no more records; the last one gives the root logger its level back."""
    if take in _taking:
        _taking.remove(take)
    root = logging.getLogger()
    if not _taking and isinstance(root.level, _Lowered):
        root.setLevel(logging.WARNING)


def _wrapped(call_handlers: Any) -> Any:
    @functools.wraps(call_handlers)
    def calling_handlers(self: logging.Logger, record: logging.LogRecord) -> None:
        for take in _taking:
            take(record)
        if record.levelno < logging.WARNING and isinstance(self.getEffectiveLevel(), _Lowered):
            return  # without us there would be no such record
        call_handlers(self, record)

    calling_handlers._telemetry = True  # type: ignore[attr-defined]
    return calling_handlers
