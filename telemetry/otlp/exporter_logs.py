"""Log an export failure once, and once more on recovery.

The SDK's exporters log every attempt: without a Collector, several lines every five seconds on
the app's own console. Their lines are suppressed, and the last one gives the reason in ours. To
see them all, set the logger ``telemetry`` to DEBUG.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import re

from telemetry.redaction import redact

_log = logging.getLogger("telemetry")
_PACKAGE = "opentelemetry.exporter.otlp.proto"
_LOGGERS = {
    "metrics": (f"{_PACKAGE}.http.metric_exporter", f"{_PACKAGE}.grpc.metric_exporter"),
    "logs": (f"{_PACKAGE}.http._log_exporter",),
}
_SHARED = (f"{_PACKAGE}.grpc.exporter",)  # gRPC's logger, shared by all signals
_CAUSES = (
    re.compile(r"\[Errno -?\d+\] ([^\"'()]+)"),
    re.compile(r"batch code: (.*)"),
    re.compile(r"Transient error (.*) encountered while exporting"),
)
_REASON_CHARS = 200


class _SuppressingFilter(logging.Filter):
    """Suppresses the exporters' lines, and keeps the last reason in them."""

    def __init__(self, loggers: tuple[str, ...]) -> None:
        super().__init__()
        self.reason = ""
        for name in (*loggers, *_SHARED):
            # First, because the SDK's own filter drops a repeated line.
            logging.getLogger(name).filters.insert(0, self)

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        # The last line of an attempt has no reason, only that there is no further retry.
        if "max retries" not in text:
            causes = (match for pattern in _CAUSES if (match := pattern.search(text)))
            cause = next(causes, None)
            self.reason = (cause[1] if cause else text)[:_REASON_CHARS]
        return _log.isEnabledFor(logging.DEBUG)


@functools.cache
def _filter(signal: str) -> _SuppressingFilter:
    return _SuppressingFilter(_LOGGERS[signal])


class Outage:
    """The state of one signal's export, logged when it changes.

    Args:
        signal: ``metrics`` or ``logs``.
        where: the address it is exported to.
    """

    def __init__(self, signal: str, where: str) -> None:
        self._signal = signal
        self._where = redact(where)
        self._filter = _filter(signal)
        self._failing = False

    def record(self, worked: bool) -> None:
        """Record whether an export worked; log if that is a change."""
        if worked != self._failing:
            return
        self._failing = not worked
        with contextlib.suppress(Exception):  # a logging handler of the app may raise
            if worked:
                # A warning too, so that it is shown wherever the failure was.
                _log.warning("telemetry: %s are exported to %s again", self._signal, self._where)
            else:
                _log.warning(
                    "telemetry: %s can't be exported to %s (%s). The app continues; dropped %s are "
                    "counted in telemetry_dropped_total. Run `telemetry doctor` to find the cause.",
                    self._signal,
                    self._where,
                    self._filter.reason or "no response in time",
                    self._signal,
                )
