"""What the app records with the OpenTelemetry API itself: collected with ours, shown with ours."""

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

# A request is counted once: what frameworks and instrumentations count as well is left out.
_COUNTED_HERE = (
    catalog.HTTP_SERVER_REQUEST_DURATION,
    catalog.HTTP_SERVER_ACTIVE_REQUESTS,
    catalog.HTTP_SERVER_REQUEST_BODY_SIZE,
    catalog.HTTP_SERVER_RESPONSE_BODY_SIZE,
)


class Meters:
    """The process's meter provider, as far as it is ours."""

    def __init__(self) -> None:
        self.collecting = threading.RLock()
        """Held while the SDK collects, whose locks must not be held when the process forks."""
        self._reader: InMemoryMetricReader | None = None

    def provide(self, resource: Resource, readers: Sequence[MetricReader] = ()) -> None:
        """Make a provider the global one, unless the app has set one of its own, which it then
        exports by itself."""
        if self._reader is not None:
            return
        present: Any = metrics.get_meter_provider()
        if getattr(present, "telemetry_own", False):
            # Of a pipeline before this one: a process has one global provider for good.
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
        """What has been recorded so far; None where there is nothing."""
        if self._reader is None:
            return None
        with self.collecting:
            return self._reader.get_metrics_data()

    def under(self, resource: Resource) -> list[ResourceMetrics]:
        """The same, as this resource's."""
        data = self.collect()
        return [
            ResourceMetrics(resource, found.scope_metrics, found.schema_url)
            for found in (data.resource_metrics if data is not None else ())
        ]
