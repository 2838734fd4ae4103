"""Standard-library logging to OTLP.

Each record from TELEMETRY_LOG_LEVEL (INFO) up becomes an OpenTelemetry log record with the
trace it belongs to, and waits in a bounded queue; a thread scrubs and sends them in batches.
What doesn't fit or can't be sent is dropped and counted. Logging never waits for the network
and never raises.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Sequence

from opentelemetry import context
from opentelemetry._logs import LogRecord
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk._logs.export import LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from telemetry import metrics
from telemetry.logs.capture import capture, release
from telemetry.logs.records import to_otel
from telemetry.otlp.exporter_logs import Outage
from telemetry.otlp.exporters import exporters
from telemetry.redaction import Redactor
from telemetry.settings.library import LogSettings, Settings

_SUPPRESS = "suppress_instrumentation"
# What the export itself makes others log must not be exported: it would never end. Our threads
# are known by their context; gRPC has threads of its own.
_OURS = ("opentelemetry", "grpc")


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
        self._exporters = exporters(settings, "logs")
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
            converted = to_otel(record)
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
        release(self.take)

    def shutdown(self) -> None:
        """Take no more records, send what is left and stop."""
        release(self.take)
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
        self._outage.record(worked)
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
        exporters(settings, "logs"),
        resource,
        Redactor.from_env(settings.environ),
        settings.logs,
        Outage("logs", settings.otlp("LOGS").address),
    )
    capture(pipeline.take, settings.logs.level)
    return pipeline
