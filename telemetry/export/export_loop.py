"""A thread that exports periodically, and immediately on request."""

from __future__ import annotations

import threading
from collections.abc import Callable

from opentelemetry import context

# https://github.com/open-telemetry/opentelemetry-python/blob/main/opentelemetry-api/src/opentelemetry/context
_SUPPRESS = "suppress_instrumentation"


class ExportLoop:
    """The export thread of a process.

    Args:
        interval_s: between exports.
        export: exports; returns False if that failed, and never raises.
    """

    def __init__(self, interval_s: float, export: Callable[[], bool]) -> None:
        self._interval_s = interval_s
        self._export = export
        self._wanted = threading.Condition()
        self._asked = self._served = 0
        self._worked = True
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="telemetry-metrics", daemon=True)
        self._thread.start()

    def flush(self, timeout_s: float) -> bool:
        """Export now; False if that failed or took longer. Blocks."""
        with self._wanted:
            self._asked += 1
            mine = self._asked
            self._wanted.notify_all()
            in_time = self._wanted.wait_for(lambda: self._served >= mine, timeout_s)
            return in_time and self._worked

    def stop(self) -> None:
        """Stop exporting. `join` waits for an export in progress."""
        with self._wanted:
            self._stopping = True
            self._wanted.notify_all()

    def join(self, timeout_s: float) -> None:
        """Wait until the thread has ended."""
        self._thread.join(timeout_s)

    def _run(self) -> None:
        # The exporter's own logs and requests must not be instrumented.
        context.attach(context.set_value(_SUPPRESS, True))
        while True:
            with self._wanted:
                self._wanted.wait_for(
                    lambda: self._stopping or self._asked > self._served, self._interval_s
                )
                if self._stopping:
                    return
                asked = self._asked
            worked = self._export()
            with self._wanted:
                self._served, self._worked = asked, worked
                self._wanted.notify_all()
