"""Log of our own services on stderr."""

from __future__ import annotations

import logging

from telemetry.system.escapes import escape_lines

_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class _Formatter(logging.Formatter):
    """Escapes control characters: log lines quote names and answers from outside."""

    def format(self, record: logging.LogRecord) -> str:
        return escape_lines(super().format(record))


def log_to_console() -> None:
    """Print this process's log lines, unless logging is configured already.

    Call it before the library adds its own handler, which would count as a configuration.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(_Formatter(_FORMAT))
    logging.basicConfig(handlers=[handler])
