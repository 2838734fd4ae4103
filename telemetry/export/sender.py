"""Send points by every exporter, and remember which series have been sent."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult
from opentelemetry.sdk.resources import Resource

from telemetry.metrics.points import Attributes, Point
from telemetry.metrics.registry import Registry
from telemetry.otlp.exporter_logs import Outage
from telemetry.otlp.points import combined, to_sdk

Batches = Sequence[tuple[Resource, Sequence[Point]]]
_Series = tuple[str, tuple[str, Attributes]]  # instance and key


class Sender:
    """The exporters of one process.

    Args:
        exporters: the SDK's exporters.
        registry: counts points that could not be exported.
        timeout_s: of one export.
        outage: records whether exports work.
    """

    def __init__(
        self,
        exporters: Sequence[MetricExporter],
        registry: Registry,
        timeout_s: float,
        outage: Outage,
    ) -> None:
        self.exporters = tuple(exporters)
        self._registry = registry
        self._timeout_s = timeout_s
        self._outage = outage
        self._sent: set[_Series] = set()
        self._last_ns = 0

    def send(self, batches: Batches, sdk: Sequence[Any] = ()) -> bool:
        """Export points now; False if that failed. Blocks.

        Args:
            batches: our own points, by resource.
            sdk: the OpenTelemetry SDK's metrics, as ``ResourceMetrics``.
        """
        # Prometheus' timestamps are milliseconds, and it rejects a second value for the same one.
        now = self._last_ns = max(time.time_ns(), self._last_ns + 1_000_000)
        fresh: set[_Series] = set()

        def is_new(instance: str, key: tuple[str, Attributes]) -> bool:
            seen = (instance, key) in self._sent
            if not seen:
                fresh.add((instance, key))
            return not seen

        ours = to_sdk(batches, now, is_new)
        data = combined([*ours.resource_metrics, *sdk])
        if not data.resource_metrics:
            return True
        timeout = self._timeout_s * 1000
        results = [exporter.export(data, timeout_millis=timeout) for exporter in self.exporters]
        done = all(result is MetricExportResult.SUCCESS for result in results)
        if done:
            self._sent |= fresh
        else:
            self._registry.dropped("metrics", "export_failed", sum(len(p) for _, p in batches))
        self._outage.record(done)
        return done

    def forget(self, instance: str, points: Sequence[Point]) -> None:
        """Forget series that have ended: one that restarts is new."""
        self._sent -= {(instance, point.key) for point in points}

    def shutdown(self) -> None:
        """Shut the exporters down."""
        for exporter in self.exporters:
            exporter.shutdown()
