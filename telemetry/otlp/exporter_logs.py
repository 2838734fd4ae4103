"""An export that fails is said once, and once more when it works again.

The SDK's exporters log every attempt: with no collector, several lines each five seconds on
the app's own console. Theirs are kept back, their last one gives the reason in ours. Who wants
to see them all sets the logger ``telemetry`` to DEBUG.
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
_SHARED = (f"{_PACKAGE}.grpc.exporter",)  # gRPC's, for every signal
_CAUSES = (
    re.compile(r"\[Errno -?\d+\] ([^\"'()]+)"),
    re.compile(r"batch code: (.*)"),
    re.compile(r"Transient error (.*) encountered while exporting"),
)
_REASON_CHARS = 200


class _KeptBack(logging.Filter):
    def __init__(self, loggers: tuple[str, ...]) -> None:
        super().__init__()
        self.reason = ""
        for name in (*loggers, *_SHARED):
            # First: the SDK's own filter would keep a repeated reason from us.
            logging.getLogger(name).filters.insert(0, self)

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        # The last line of an attempt says only that there will be no other.
        if "max retries" not in text:
            causes = (match for pattern in _CAUSES if (match := pattern.search(text)))
            cause = next(causes, None)
            self.reason = (cause[1] if cause else text)[:_REASON_CHARS]
        return _log.isEnabledFor(logging.DEBUG)


@functools.cache
def _kept_back(signal: str) -> _KeptBack:
    return _KeptBack(_LOGGERS[signal])


class Outage:
    """Whether one signal can be exported, told when that changes.

    Args:
        signal: ``metrics`` or ``logs``.
        where: the address it is sent to.
    """

    def __init__(self, signal: str, where: str) -> None:
        self._signal = signal
        self._where = redact(where)
        self._kept_back = _kept_back(signal)
        self._lasts = False

    def tell(self, worked: bool) -> None:
        """Take note of an export; log where it changes what is known."""
        if worked != self._lasts:
            return
        self._lasts = not worked
        with contextlib.suppress(Exception):  # a handler of the app's; the export goes on
            if worked:
                # A warning too: who was told of the one is to be told of the other.
                _log.warning("telemetry: %s are exported to %s again", self._signal, self._where)
            else:
                _log.warning(
                    "telemetry: %s can't be exported to %s (%s). The app runs on; what is dropped "
                    "is counted in telemetry_dropped_total. `telemetry doctor` looks for the "
                    "cause.",
                    self._signal,
                    self._where,
                    self._kept_back.reason or "no answer in time",
                )
