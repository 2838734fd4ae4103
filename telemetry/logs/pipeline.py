"""Standard-library logging to OTLP.

Each record that a logger lets through becomes an OpenTelemetry log record with the trace it
belongs to, and waits in a bounded queue; a thread of its own scrubs and sends what has
gathered. What doesn't fit or can't be sent is dropped and counted. Logging never waits for the
network and never raises.

Records are taken in ``Logger.callHandlers``, past a logger's own level and filters and before
any handler. So no configuration of an app or a server (``basicConfig``, ``dictConfig``,
uvicorn's loggers that don't propagate) can lose them or write them twice, and no handler is
added that would change what is printed.

Levels: records from TELEMETRY_LOG_LEVEL (INFO) up are exported. The root logger, where nobody
has set its level, is lowered to that, or an app's ``logger.info`` would never be made; what
only thereby comes about is exported and never printed.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import threading
import time
import traceback
from collections import deque
from collections.abc import Sequence
from typing import Any

from opentelemetry import context, trace
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk._logs.export import LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from telemetry import metrics
from telemetry.metrics.points import encodable
from telemetry.otlp.exporter_logs import Outage
from telemetry.redaction import Redactor
from telemetry.settings.library import LogSettings, Settings

BODY_CHARS = 65_536
ATTRIBUTE_CHARS = 16_384
"""Longer texts lose their middle. Loki takes 64 KB of attributes a line, and a queue bounded by
count alone is not bounded."""

_SUPPRESS = "suppress_instrumentation"
# What the export itself makes others log must not be exported: it would never end. Our threads
# are known by their context; gRPC has threads of its own.
_OURS = ("opentelemetry", "grpc")
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_SEVERITIES = (
    (logging.CRITICAL, SeverityNumber.FATAL),
    (logging.ERROR, SeverityNumber.ERROR),
    (logging.WARNING, SeverityNumber.WARN),
    (logging.INFO, SeverityNumber.INFO),
    (logging.DEBUG, SeverityNumber.DEBUG),
)


class LogPipeline:
    """Queue, thread and exporters of one process.

    Args:
        exporters: where records go.
        resource: whose records they are.
        redactor: takes secrets out.
        settings: level and sizes.
        outage: tells when sending stops to work, and when it works again.
    """

    def __init__(
        self,
        exporters: Sequence[LogRecordExporter],
        resource: Resource,
        redactor: Redactor,
        settings: LogSettings,
        outage: Outage,
    ) -> None:
        self.settings = settings
        self._exporters = exporters
        self._redactor = redactor
        self._outage = outage
        self._begin(resource)

    def after_fork(self, settings: Settings, resource: Resource) -> None:
        """Begin anew: what the parent had queued is the parent's to send, and so are its
        connections: two processes on one would read each other's answers."""
        self._exporters = _exporters(settings)
        self._begin(resource)

    def _begin(self, resource: Resource) -> None:
        self._resource = resource
        self._queue: deque[LogRecord] = deque()
        self._wake = threading.Condition()
        self._put = self._done = 0
        self._worked = True
        self._urgent = self._stopping = False
        self._thread = threading.Thread(target=self._run, name="telemetry-logs", daemon=True)
        self._thread.start()

    def take(self, record: logging.LogRecord) -> None:
        """Queue a record; drops and counts it where the queue is full. Never raises."""
        if (
            record.levelno < self.settings.level
            or context.get_value(_SUPPRESS)
            or record.name.partition(".")[0] in _OURS
        ):
            return
        if len(self._queue) >= self.settings.queue:
            metrics.dropped("logs", "queue_full")
            return
        try:
            converted = _converted(record)
        except Exception:
            # logging prints such errors to stderr; a log line is not worth a request.
            metrics.dropped("logs", "malformed")
            return
        with self._wake:
            self._queue.append(converted)
            self._put += 1
            if len(self._queue) >= self.settings.batch:
                self._wake.notify_all()

    def flush(self, timeout_s: float) -> bool:
        """Send what is queued; False if that failed or took longer. Blocks."""
        with self._wake:
            target = self._put
            self._urgent = True
            self._wake.notify_all()
            in_time = self._wake.wait_for(lambda: self._done >= target, timeout_s)
            return in_time and self._worked

    def abandon(self) -> None:
        """Take no more records, in a fork's child: what waits is the parent's to send."""
        _release(self)

    def shutdown(self) -> None:
        """Take no more records, send what is left and stop."""
        _release(self)
        self.flush(3.0)
        with self._wake:
            self._stopping = True
            self._wake.notify_all()
        self._thread.join(3.0)
        for exporter in self._exporters:
            exporter.shutdown()  # type: ignore[no-untyped-call]

    def _run(self) -> None:
        # What the exporter itself logs or sends is neither logged nor instrumented.
        context.attach(context.set_value(_SUPPRESS, True))
        while not self._stopping:
            with self._wake:
                self._wake.wait_for(
                    lambda: (
                        self._stopping or self._urgent or len(self._queue) >= self.settings.batch
                    ),
                    self.settings.delay_s,
                )
                self._urgent = False
            while batch := self._next():
                worked = self._send(batch)
                with self._wake:
                    self._worked = worked
                    self._done += len(batch)
                    self._wake.notify_all()

    def _next(self) -> list[LogRecord]:
        with self._wake:
            return [
                self._queue.popleft() for _ in range(min(self.settings.batch, len(self._queue)))
            ]

    def _send(self, batch: list[LogRecord]) -> bool:
        worked = True
        try:
            ready = [self._scrubbed(record) for record in batch]
            for exporter in self._exporters:
                worked = exporter.export(ready) is LogRecordExportResult.SUCCESS and worked
        except Exception as error:
            worked = False
            logging.getLogger("telemetry").debug("exporting logs", exc_info=error)
        if not worked:
            metrics.dropped("logs", "export_failed", len(batch))
        self._outage.tell(worked)
        return worked

    def _scrubbed(self, record: LogRecord) -> ReadableLogRecord:
        given = dict(record.attributes or {})
        record.body = self._redactor.text(str(record.body))
        record.attributes = self._redactor.attributes(given)
        scope = InstrumentationScope(str(given["logger.name"]))
        return ReadableLogRecord(record, self._resource, scope)


def attach(settings: Settings, resource: Resource) -> LogPipeline:
    """Export what the process logs from now on."""
    pipeline = LogPipeline(
        _exporters(settings),
        resource,
        Redactor.from_env(settings.environ),
        settings.logs,
        Outage("logs", settings.otlp("LOGS").address),
    )
    _capture(pipeline)
    return pipeline


# --- taking records --------------------------------------------------------------------------


class _Lowered(int):
    """The root's level where we lowered it: an app that sets the same number means it."""


_taking: list[LogPipeline] = []


def _capture(pipeline: LogPipeline) -> None:
    _taking.append(pipeline)
    root = logging.getLogger()
    if root.level == logging.WARNING and pipeline.settings.level < root.level:
        root.setLevel(_Lowered(pipeline.settings.level))
    if not getattr(logging.Logger.callHandlers, "_telemetry", False):
        logging.Logger.callHandlers = _taken(  # type: ignore[method-assign]
            logging.Logger.callHandlers
        )


def _release(pipeline: LogPipeline) -> None:
    if pipeline in _taking:
        _taking.remove(pipeline)
    root = logging.getLogger()
    if not _taking and isinstance(root.level, _Lowered):
        root.setLevel(logging.WARNING)


def _taken(call_handlers: Any) -> Any:
    @functools.wraps(call_handlers)
    def calling_handlers(self: logging.Logger, record: logging.LogRecord) -> None:
        for pipeline in _taking:
            pipeline.take(record)
        if record.levelno < logging.WARNING and isinstance(self.getEffectiveLevel(), _Lowered):
            return  # but for us there would be no such record
        call_handlers(self, record)

    calling_handlers._telemetry = True  # type: ignore[attr-defined]
    return calling_handlers


# --- what they become ------------------------------------------------------------------------


def _converted(record: logging.LogRecord) -> LogRecord:
    given = vars(record)
    attributes: dict[str, Any] = {
        "logger.name": encodable(record.name),
        "code.file.path": encodable(record.pathname),
        "code.function.name": encodable(record.funcName or ""),
        "code.line.number": record.lineno,
    }
    for key in given.keys() - _STANDARD:
        value = given[key]
        # uvicorn's color_message is its message with colours.
        if value is not None and not key.startswith("_") and key != "color_message":
            # OTLP's integers have 64 bits.
            number = isinstance(value, (bool, float)) or (
                isinstance(value, int) and -(2**63) <= value < 2**63
            )
            attributes[key] = value if number else _cut(str(value), ATTRIBUTE_CHARS)
    if record.exc_info and record.exc_info[0] is not None:
        attributes |= _exception(record.exc_info)
    if record.stack_info:
        attributes["code.stacktrace"] = _cut(record.stack_info, ATTRIBUTE_CHARS)
    span = trace.get_current_span().get_span_context()
    return LogRecord(
        timestamp=int(record.created * 1e9),
        observed_timestamp=time.time_ns(),
        trace_id=span.trace_id,
        span_id=span.span_id,
        trace_flags=span.trace_flags,
        severity_text=record.levelname,
        severity_number=_severity(record.levelno),
        body=_cut(record.getMessage(), BODY_CHARS),
        attributes=attributes,
    )


def _cut(text: str, limit: int) -> str:
    """``text`` without its middle where it is too long: a trace's cause stands at its end."""
    text = encodable(text)
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]} … [{len(text) - 2 * half} characters cut] … {text[-half:]}"


def _exception(info: Any) -> dict[str, Any]:
    kind, value, tb = info
    found = {"exception.type": f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")}
    with contextlib.suppress(Exception):  # its own __str__ may be what raises
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


# --- where they go ---------------------------------------------------------------------------


def _exporters(settings: Settings) -> list[LogRecordExporter]:
    found: list[LogRecordExporter] = []
    for name in settings.logs_exporters:
        if name == "console":
            from opentelemetry.sdk._logs.export import ConsoleLogRecordExporter

            found.append(ConsoleLogRecordExporter())
        elif name == "otlp":
            found.append(_otlp(settings))
    return found


def _otlp(settings: Settings) -> LogRecordExporter:
    otlp = settings.otlp("LOGS")
    if otlp.protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc._log_exporter import (
            OTLPLogExporter as GRPCExporter,
        )

        return GRPCExporter() if otlp.given else GRPCExporter(otlp.address, insecure=True)
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter

    return OTLPLogExporter(None if otlp.given else f"{otlp.address}/v1/logs")
