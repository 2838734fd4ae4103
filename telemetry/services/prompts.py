"""Keep prompts and answers out of a service's logs, if TELEMETRY_PROMPTS is off."""

from __future__ import annotations

import logging
from types import TracebackType
from typing import Any

from telemetry.settings.declare import FLAG, Setting

PROMPTS = Setting(
    "TELEMETRY_PROMPTS",
    FLAG,
    True,
    "log prompts and answers, and store chats; if off, logs have metadata only, and the gateway "
    "keeps chats in memory only",
)
WITHHELD = "the text is withheld, because TELEMETRY_PROMPTS is off"
# Their debug lines quote what is sent and received.
_LIBRARIES = ("aiohttp", "asyncio", "httpcore", "httpx", "uvicorn", "websockets")

ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]


def keep_out_of_logs() -> None:
    """Make this process's log records without texts of exceptions, which may quote a request.

    An exception's type and stack are kept. Libraries log no debug lines.
    """
    for name in _LIBRARIES:
        logging.getLogger(name).setLevel(logging.INFO)
    make = logging.getLogRecordFactory()

    def making(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = make(*args, **kwargs)
        if isinstance(record.args, tuple):
            record.args = tuple(map(_withhold, record.args))
        if record.exc_info and record.exc_info[0] is not None:
            # asyncio adds lines with the task, and so with the exception.
            record.msg, record.args = _first_line(record), ()
            record.exc_info = _without_text(record.exc_info)
        return record

    logging.setLogRecordFactory(making)


def _first_line(record: logging.LogRecord) -> str:
    try:
        return record.getMessage().partition("\n")[0]
    except (TypeError, ValueError):  # arguments that don't fit the message
        return str(record.msg)


def _withhold(value: object) -> object:
    # Errors of the operating system name files and addresses.
    if isinstance(value, BaseException) and not isinstance(value, OSError):
        return f"{type(value).__name__} ({WITHHELD})"
    return value


def _without_text(info: ExcInfo) -> ExcInfo:
    """Replace an exception by one of the same name, without text, notes and causes."""
    kind, error, trace = info
    named = {"__module__": kind.__module__, "__qualname__": kind.__qualname__}
    stand_in = type(kind.__name__, (Exception,), named)(WITHHELD)
    # The library notes the request's trace on an exception.
    vars(stand_in).update({k: v for k, v in vars(error).items() if k.startswith("_telemetry")})
    return type(stand_in), stand_in, trace
