"""Export of standard-library log records over OTLP.

Each record of at least TELEMETRY_LOG_LEVEL (default: INFO) becomes an OpenTelemetry log record
with its trace, and is queued. A thread redacts the queued records and sends them in batches.
Records that don't fit the queue or can't be sent are dropped and counted. Logging never waits
for the network and never raises.
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
# Exporting the records that an export causes would never end. Our threads are recognized by
# their context; these libraries also log in their own threads.
_OURS = ("opentelemetry", "grpc")


class LogPipeline:
    """Queue, thread and exporters of one process.

    Args:
        exporters: the SDK's exporters.
        resource: the resource of the records.
        redactor: masks secrets.
        settings: level and sizes.
        outage: records whether exports work.
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
        """Start with an empty queue and new exporters, in a forked child.

        The parent sends its queued records itself. Its connections can't be shared: two processes
        on one would read each other's responses.
        """
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

    def enqueue(self, record: logging.LogRecord) -> None:
        """Queue a record; drop and count it if the queue is full. Never raises."""
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
            # logging prints such errors to stderr. A log line must not fail a request.
            metrics.dropped("logs", "malformed")
            return
        with self._wake:
            self._queue.append(converted)
            self._put += 1
            if len(self._queue) >= self.settings.batch:
                self._wake.notify_all()

    def flush(self, timeout_s: float) -> bool:
        """Send the queued records; False if that failed or took longer. Blocks."""
        with self._wake:
            target = self._put
            self._urgent = True
            self._wake.notify_all()
            in_time = self._wake.wait_for(lambda: self._done >= target, timeout_s)
            return in_time and self._worked

    def abandon(self) -> None:
        """Accept no more records, in a forked child: the parent sends the queued ones."""
        release(self.enqueue)

    def shutdown(self) -> None:
        """Accept no more records, send the queued ones and stop."""
        release(self.enqueue)
        self.flush(3.0)
        with self._wake:
            self._stopping = True
            self._wake.notify_all()
        self._thread.join(3.0)
        for exporter in self._exporters:
            exporter.shutdown()  # type: ignore[no-untyped-call]

    def _run(self) -> None:
        # The exporter's own logs and requests must be neither exported nor instrumented.
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
            ready = [self._redact(record) for record in batch]
            for exporter in self._exporters:
                worked = exporter.export(ready) is LogRecordExportResult.SUCCESS and worked
        except Exception as error:
            worked = False
            logging.getLogger("telemetry").debug("exporting logs", exc_info=error)
        if not worked:
            metrics.dropped("logs", "export_failed", len(batch))
        self._outage.record(worked)
        return worked

    def _redact(self, record: LogRecord) -> ReadableLogRecord:
        given = dict(record.attributes or {})
        record.body = self._redactor.text(str(record.body))
        record.attributes = self._redactor.attributes(given)
        scope = InstrumentationScope(str(given["logger.name"]))
        return ReadableLogRecord(record, self._resource, scope)


def attach(settings: Settings, resource: Resource) -> LogPipeline:
    """Export the process's log records from now on."""
    pipeline = LogPipeline(
        exporters(settings, "logs"),
        resource,
        settings.redactor,
        settings.logs,
        Outage("logs", settings.otlp["logs"].address),
    )
    capture(pipeline.enqueue, settings.logs.level)
    return pipeline
