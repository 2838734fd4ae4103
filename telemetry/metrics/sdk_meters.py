"""Metrics that the app records with the OpenTelemetry API, collected and exported with ours."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    InMemoryMetricReader,
    MetricReader,
    MetricsData,
    ResourceMetrics,
)
from opentelemetry.sdk.metrics.view import DropAggregation, View
from opentelemetry.sdk.resources import Resource

from telemetry import catalog

# Dropped, because the middleware counts them already: a request is counted once, even if its
# framework or another instrumentation counts it too.
_COUNTED_HERE = (
    catalog.HTTP_SERVER_REQUEST_DURATION,
    catalog.HTTP_SERVER_ACTIVE_REQUESTS,
    catalog.HTTP_SERVER_REQUEST_BODY_SIZE,
    catalog.HTTP_SERVER_RESPONSE_BODY_SIZE,
)


class Meters:
    """The meter provider of the process, unless the app has its own."""

    def __init__(self) -> None:
        self.collecting = threading.RLock()
        """Held while the SDK collects: the process must not fork while the SDK holds its locks."""
        self._reader: InMemoryMetricReader | None = None

    def provide(self, resource: Resource, readers: Sequence[MetricReader] = ()) -> None:
        """Set the global provider, unless the app has set its own, which it exports itself."""
        if self._reader is not None:
            return
        present: Any = metrics.get_meter_provider()
        if getattr(present, "telemetry_own", False):
            # An earlier pipeline set it. A process can set its global provider only once.
            self._reader = present.telemetry_reader
            return
        self._reader = InMemoryMetricReader()
        views = [
            View(instrument_name=metric.name, aggregation=DropAggregation())
            for metric in _COUNTED_HERE
        ]
        provider: Any = MeterProvider(
            [self._reader, *readers], resource=resource, views=views, shutdown_on_exit=False
        )
        provider.telemetry_own, provider.telemetry_reader = True, self._reader
        if type(present).__name__ == "_ProxyMeterProvider":
            metrics.set_meter_provider(provider)

    def collect(self) -> MetricsData | None:
        """Collect what has been recorded so far; None before `provide`."""
        if self._reader is None:
            return None
        with self.collecting:
            return self._reader.get_metrics_data()

    def collect_as(self, resource: Resource) -> list[ResourceMetrics]:
        """Collect, and give the metrics this resource."""
        data = self.collect()
        return [
            ResourceMetrics(resource, found.scope_metrics, found.schema_url)
            for found in (data.resource_metrics if data is not None else ())
        ]
