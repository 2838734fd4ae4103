"""Convert the standard library's log records to OpenTelemetry's."""

from __future__ import annotations

import contextlib
import logging
import time
import traceback
from typing import Any

from opentelemetry import trace
from opentelemetry._logs import LogRecord, SeverityNumber

from telemetry.logs.failed_requests import noted_trace
from telemetry.metrics.points import encodable

BODY_CHARS = 65_536
ATTRIBUTE_CHARS = 16_384
"""Longer texts lose their middle. Loki accepts 64 KB of attributes per line, and a queue that is
bounded by count alone could take any amount of memory."""

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_SEVERITIES = (
    (logging.CRITICAL, SeverityNumber.FATAL),
    (logging.ERROR, SeverityNumber.ERROR),
    (logging.WARNING, SeverityNumber.WARN),
    (logging.INFO, SeverityNumber.INFO),
    (logging.DEBUG, SeverityNumber.DEBUG),
)


def to_otel(record: logging.LogRecord) -> LogRecord:
    """Convert a record: its message, extra fields, exception and trace.

    The body is what a console shows: the message, then the stack. So a search finds an exception
    by its text; stores don't search attributes.
    """
    given = vars(record)
    attributes: dict[str, Any] = {
        "logger.name": encodable(record.name),
        "code.file.path": encodable(record.pathname),
        "code.function.name": encodable(record.funcName or ""),
        "code.line.number": record.lineno,
    }
    for key in given.keys() - _STANDARD:
        value = given[key]
        # uvicorn's color_message is the same message with colours.
        if value is not None and not key.startswith("_") and key != "color_message":
            # OTLP's integers have 64 bits.
            number = isinstance(value, (bool, float)) or (
                isinstance(value, int) and -(2**63) <= value < 2**63
            )
            attributes[key] = value if number else _cut(str(value), ATTRIBUTE_CHARS)
    body = [record.getMessage()]
    span = trace.get_current_span().get_span_context()
    if record.exc_info and record.exc_info[0] is not None:
        found = _exception(record.exc_info)
        attributes |= found
        body.append(found.get("exception.stacktrace", ""))
        if not span.is_valid:
            span = noted_trace(record.exc_info[1])
    if record.stack_info:
        attributes["code.stacktrace"] = _cut(record.stack_info, ATTRIBUTE_CHARS)
        body.append(attributes["code.stacktrace"])
    return LogRecord(
        timestamp=int(record.created * 1e9),
        observed_timestamp=time.time_ns(),
        trace_id=span.trace_id,
        span_id=span.span_id,
        trace_flags=span.trace_flags,
        severity_text=record.levelname,
        severity_number=_severity(record.levelno),
        body=_cut("\n".join(part.rstrip("\n") for part in body if part), BODY_CHARS),
        attributes=attributes,
    )


def _cut(text: str, limit: int) -> str:
    """Cut the middle of a too long text: the cause of a traceback is at its end."""
    text = encodable(text)
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]} … [{len(text) - 2 * half} characters cut] … {text[-half:]}"


def _exception(info: Any) -> dict[str, Any]:
    kind, value, tb = info
    found = {"exception.type": f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")}
    with contextlib.suppress(Exception):  # the exception's own __str__ may raise
        found["exception.stacktrace"] = _cut(
            "".join(traceback.format_exception(kind, value, tb)), ATTRIBUTE_CHARS
        )
        found["exception.message"] = _cut(str(value), ATTRIBUTE_CHARS)
    return found


def _severity(levelno: int) -> SeverityNumber:
    for level, severity in _SEVERITIES:
        if levelno >= level:
            return severity
    return SeverityNumber.TRACE
