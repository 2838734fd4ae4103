"""Capture of log records in ``Logger.callHandlers``.

``callHandlers`` runs after a logger's level and filters, and before any handler. So no
configuration of an app or a server (``basicConfig``, ``dictConfig``, uvicorn's loggers that don't
propagate) can lose records or duplicate them. No handler is added, so the same lines are printed.

If the root logger still has its default level, it is lowered to the exported level; otherwise an
app's ``logger.info`` would create no record. Records that exist only because of this are exported
but not printed.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any

Consumer = Callable[[logging.LogRecord], None]

_consumers: list[Consumer] = []


class _LoweredLevel(int):
    """The root logger's level after we lowered it, distinct from the same level set by the app."""


def capture(consumer: Consumer, level: int) -> None:
    """Pass every record to ``consumer`` from now on.

    Args:
        consumer: must not raise.
        level: the lowest level that it needs, as in `logging`.
    """
    _consumers.append(consumer)
    root = logging.getLogger()
    if root.level == logging.WARNING and level < root.level:
        root.setLevel(_LoweredLevel(level))
    if not getattr(logging.Logger.callHandlers, "_telemetry", False):
        logging.Logger.callHandlers = _wrapped(  # type: ignore[method-assign]
            logging.Logger.callHandlers
        )


def release(consumer: Consumer) -> None:
    """Pass it no more records. After the last consumer, restore the root logger's level."""
    if consumer in _consumers:
        _consumers.remove(consumer)
    root = logging.getLogger()
    if not _consumers and isinstance(root.level, _LoweredLevel):
        root.setLevel(logging.WARNING)


def _wrapped(call_handlers: Any) -> Any:
    @functools.wraps(call_handlers)
    def calling_handlers(self: logging.Logger, record: logging.LogRecord) -> None:
        for consumer in _consumers:
            consumer(record)
        if record.levelno < logging.WARNING and isinstance(self.getEffectiveLevel(), _LoweredLevel):
            return  # the record exists only because we lowered the level
        call_handlers(self, record)

    calling_handlers._telemetry = True  # type: ignore[attr-defined]
    return calling_handlers
