"""Standard-library logging to OTLP.

A handler turns each record into an OpenTelemetry log record, scrubbed, with the trace it
belongs to, and puts it into a bounded queue; a thread of its own sends what has gathered. What
doesn't fit or can't be sent is dropped and counted. Logging never waits and never raises.

Levels: records from TELEMETRY_LOG_LEVEL (INFO) up are exported. The root logger, where nobody
has set its level, is lowered to that, or an app's ``logger.info`` would never get here; its
other handlers keep printing what they printed before.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import logging.config
import threading
import time
import traceback
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from opentelemetry import context, trace
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk._logs.export import LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from telemetry import metrics
from telemetry.config import Settings
from telemetry.errors import ConfigError
from telemetry.redaction import Redactor

QUEUE = 2048
BATCH = 512
DELAY_S = 1.0  # the longest a record waits for company; a judgement
_SUPPRESS = "suppress_instrumentation"

# Servers switch propagation off for these, so that the root's handlers never see them.
SERVER_LOGGERS = (
    "uvicorn",
    "uvicorn.error",
    "uvicorn.access",
    "uvicorn.asgi",
    "gunicorn.error",
    "gunicorn.access",
    "hypercorn.error",
    "hypercorn.access",
    "granian",
    "granian.access",
)
# What the export itself makes others log must not be exported: it would never end.
_OURS = ("opentelemetry", "urllib3", "requests", "grpc", "telemetry.logs", "telemetry.pipeline")
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
# uvicorn's coloured duplicate of the message.
_NOISE = frozenset(("color_message",))


class Handler(logging.Handler):
    """Hands records to the pipeline."""

    def __init__(self, pipeline: LogPipeline, level: int) -> None:
        super().__init__(level)
        self._pipeline = pipeline

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.startswith(_OURS) or getattr(record, "_telemetry_seen", False):
            return
        # A record that passes two of our handlers (a server's logger and the root) goes once.
        record._telemetry_seen = True
        try:
            self._pipeline.put(record)
        except Exception:
            # logging.raiseExceptions prints to stderr; a log line is not worth a request.
            metrics.dropped("logs", "malformed")


class LogPipeline:
    """Queue, thread and exporters of one process.

    Args:
        exporters: where records go.
        resource: whose records they are.
        redactor: takes secrets out.
        level: lowest level that is exported, as in `logging`.
    """

    def __init__(
        self,
        exporters: Sequence[LogRecordExporter],
        resource: Resource,
        redactor: Redactor,
        level: int,
    ) -> None:
        self._exporters = exporters
        self._redactor = redactor
        self.handler = Handler(self, level)
        self.after_fork(resource)

    def after_fork(self, resource: Resource) -> None:
        """Begin anew: what the parent had queued is the parent's to send."""
        self._resource = resource
        self._queue: deque[ReadableLogRecord] = deque()
        self._wake = threading.Condition()
        self._put = self._done = 0
        self._worked = True
        self._urgent = self._stopping = False
        self._thread = threading.Thread(target=self._run, name="telemetry-logs", daemon=True)
        self._thread.start()

    def put(self, record: logging.LogRecord) -> None:
        """Queue a record; drops and counts it where the queue is full."""
        if context.get_value(_SUPPRESS):
            return
        if len(self._queue) >= QUEUE:
            metrics.dropped("logs", "queue_full")
            return
        self._queue.append(self._convert(record))
        self._put += 1
        if len(self._queue) == BATCH:
            with self._wake:
                self._wake.notify_all()

    def flush(self, timeout_s: float) -> bool:
        """Send what is queued; False if that failed or took longer. Blocks."""
        with self._wake:
            target = self._put
            self._urgent = True
            self._wake.notify_all()
            in_time = self._wake.wait_for(lambda: self._done >= target, timeout_s)
            return in_time and self._worked

    def shutdown(self) -> None:
        """Send what is left and stop; gives the root logger its handlers back."""
        detach(self.handler)
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
                    lambda: self._stopping or self._urgent or len(self._queue) >= BATCH, DELAY_S
                )
                self._urgent = False
            while self._queue:
                self._send([self._queue.popleft() for _ in range(min(BATCH, len(self._queue)))])
            with self._wake:
                self._wake.notify_all()

    def _send(self, batch: list[ReadableLogRecord]) -> None:
        worked = True
        for exporter in self._exporters:
            try:
                worked = exporter.export(batch) is LogRecordExportResult.SUCCESS and worked
            except Exception:
                worked = False
        if not worked:
            metrics.dropped("logs", "export_failed", len(batch))
        with self._wake:
            self._worked = worked
            self._done += len(batch)
            self._wake.notify_all()

    def _convert(self, record: logging.LogRecord) -> ReadableLogRecord:
        span = trace.get_current_span().get_span_context()
        attributes: dict[str, Any] = {
            key: value if isinstance(value, (str, bool, int, float)) else str(value)
            for key, value in vars(record).items()
            if key not in _STANDARD and key not in _NOISE and not key.startswith("_")
        }
        attributes |= {
            "code.file.path": record.pathname,
            "code.function.name": record.funcName,
            "code.line.number": record.lineno,
            "logger.name": record.name,
        }
        if record.exc_info and record.exc_info[0] is not None:
            attributes |= _exception(record.exc_info)
        return ReadableLogRecord(
            LogRecord(
                timestamp=int(record.created * 1e9),
                observed_timestamp=time.time_ns(),
                trace_id=span.trace_id,
                span_id=span.span_id,
                trace_flags=span.trace_flags,
                severity_text=record.levelname,
                severity_number=_severity(record.levelno),
                body=self._redactor.text(record.getMessage()),
                attributes=self._redactor.attributes(attributes),
            ),
            self._resource,
            InstrumentationScope(record.name),
        )


def attach(settings: Settings, resource: Resource) -> LogPipeline:
    """Export what the process logs from now on.

    Raises:
        ConfigError: TELEMETRY_LOG_LEVEL or TELEMETRY_REDACT_PATTERNS can't be used.
    """
    level = _level(settings.environ)
    pipeline = LogPipeline(
        _exporters(settings), resource, Redactor.from_env(settings.environ), level
    )
    _connect(pipeline.handler)
    _watch_configuration(pipeline.handler)
    return pipeline


def detach(handler: logging.Handler) -> None:
    """Take the handler off every logger."""
    _attached.discard(handler)
    root = logging.getLogger()
    root.removeHandler(handler)
    if root.handlers == [logging.lastResort]:
        root.handlers.clear()
    for name in SERVER_LOGGERS:
        logging.getLogger(name).removeHandler(handler)


_attached: set[logging.Handler] = set()


def _connect(handler: logging.Handler) -> None:
    _attached.add(handler)
    root = logging.getLogger()
    if root.level == logging.WARNING and handler.level < root.level:
        for other in root.handlers:  # they go on printing what they did
            if other.level == logging.NOTSET:
                other.setLevel(root.level)
        root.setLevel(handler.level)
    if not root.handlers and logging.lastResort is not None:
        # Warnings of an app without any handler are printed by the last resort, which only
        # acts where there is no handler: ours would silence it.
        root.addHandler(logging.lastResort)
    root.addHandler(handler)
    for name in SERVER_LOGGERS:
        logging.getLogger(name).addHandler(handler)


def _watch_configuration(handler: logging.Handler) -> None:
    """Survive an app that configures logging after we came: `basicConfig` does nothing where
    there are handlers, and `dictConfig` throws them away. Ours steps aside meanwhile."""
    if getattr(logging.basicConfig, "_telemetry", False):
        return
    for module, name in (
        (logging, "basicConfig"),
        (logging.config, "dictConfig"),
        (logging.config, "fileConfig"),
    ):
        setattr(module, name, _stepping_aside(getattr(module, name)))


def _stepping_aside(configure: Any) -> Any:
    @functools.wraps(configure)
    def stepping_aside(*args: Any, **kwargs: Any) -> Any:
        ours = list(_attached)
        for handler in ours:
            detach(handler)
        try:
            return configure(*args, **kwargs)
        finally:
            for handler in ours:
                _connect(handler)

    stepping_aside._telemetry = True  # type: ignore[attr-defined]
    return stepping_aside


def _level(environ: Mapping[str, str]) -> int:
    text = environ.get("TELEMETRY_LOG_LEVEL", "").strip().upper() or "INFO"
    level = logging.getLevelNamesMapping().get(text)
    if level is None:
        raise ConfigError("TELEMETRY_LOG_LEVEL", text, "DEBUG, INFO, WARNING, ERROR or CRITICAL")
    return level


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
    given = settings.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or settings.environ.get(
        "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT"
    )
    if settings.protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc._log_exporter import (
            OTLPLogExporter as GRPCExporter,
        )

        return GRPCExporter() if given else GRPCExporter(settings.otlp_endpoint, insecure=True)
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter

    return OTLPLogExporter(None if given else f"{settings.otlp_endpoint}/v1/logs")


def _exception(info: Any) -> dict[str, Any]:
    kind, value, tb = info
    with contextlib.suppress(Exception):
        return {
            "exception.type": f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins."),
            "exception.message": str(value),
            "exception.stacktrace": "".join(traceback.format_exception(kind, value, tb)),
        }
    return {"exception.type": kind.__qualname__}


def _severity(levelno: int) -> SeverityNumber:
    for level, severity in (
        (logging.CRITICAL, SeverityNumber.FATAL),
        (logging.ERROR, SeverityNumber.ERROR),
        (logging.WARNING, SeverityNumber.WARN),
        (logging.INFO, SeverityNumber.INFO),
        (logging.DEBUG, SeverityNumber.DEBUG),
    ):
        if levelno >= level:
            return severity
    return SeverityNumber.TRACE
