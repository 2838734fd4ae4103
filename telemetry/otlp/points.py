"""Convert points to the OpenTelemetry SDK's data, and back.

The SDK has no observable histogram, and does not accept finished points. So this module builds
the data points that its exporters expect.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.metrics.export import Metric as SDKMetric
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from telemetry.catalog import Metric
from telemetry.metrics.points import Attributes, HistogramValue, Point
from telemetry.metrics.registry import OVERFLOW

SCOPE = InstrumentationScope("telemetry")
ENDED_SCOPE = InstrumentationScope("telemetry.ended")
"""Points in this scope are sent as staleness markers: with the flag "no recorded value"."""

NO_RECORDED_VALUE = 1  # opentelemetry/proto/metrics/v1: FLAG_NO_RECORDED_VALUE
YOUNG_NS = 600 * 10**9

_CUMULATIVE = AggregationTemporality.CUMULATIVE


def flag_ended(request: Any) -> Any:
    """Turn the points of `ENDED_SCOPE` in an encoded request into staleness markers.

    Without one, a series lingers in Prometheus for five minutes.
    """
    for resource in request.resource_metrics:
        for scope in resource.scope_metrics:
            if scope.scope.name != ENDED_SCOPE.name:
                continue
            scope.scope.name = SCOPE.name
            for metric in scope.metrics:
                data = getattr(metric, metric.WhichOneof("data"))
                for point in data.data_points:
                    point.flags = NO_RECORDED_VALUE
    return request


def to_sdk(
    batches: Iterable[tuple[Resource, Sequence[Point]]],
    now_ns: int,
    is_new: Callable[[str, tuple[str, Attributes]], bool] = lambda resource, key: False,
) -> MetricsData:
    """Convert batches of points to the SDK's data.

    Args:
        batches: points by resource.
        now_ns: time of the points, in ns since the epoch.
        is_new: whether a series (resource's instance id, point key) has never been exported. A
            young counter or histogram then gets an additional point of 0 at its start; otherwise
            `increase()` would miss its first value.
    """
    resources = []
    for resource, points in batches:
        instance = str(resource.attributes.get("service.instance.id", ""))
        scopes = []
        for scope, ended in ((SCOPE, False), (ENDED_SCOPE, True)):
            families: dict[str, tuple[Metric, list[Any]]] = {}
            for point in points:
                if (point.value is None) is ended:
                    family = families.setdefault(point.metric.name, (point.metric, []))[1]
                    if (
                        not ended
                        and now_ns - YOUNG_NS < point.start_time_ns < now_ns
                        and point.metric.kind in ("counter", "histogram")
                        and is_new(instance, point.key)
                    ):
                        family.append(_data_point(point, point.start_time_ns, zero=True))
                    family.append(_data_point(point, now_ns, zero=ended))
            if families:
                metrics = [_metric(metric, found) for metric, found in families.values()]
                scopes.append(ScopeMetrics(scope, metrics, ""))
        if scopes:
            resources.append(ResourceMetrics(resource, scopes, ""))
    return MetricsData(resources)


def combined(resources: Iterable[ResourceMetrics]) -> MetricsData:
    """Combine entries of the same resource and scope: of two equal ones the SDK's encoder keeps
    only the last."""
    found: dict[Resource, dict[InstrumentationScope, list[SDKMetric]]] = {}
    for entry in resources:
        scopes = found.setdefault(entry.resource, {})
        for scope in entry.scope_metrics:
            scopes.setdefault(scope.scope, []).extend(scope.metrics)
    return MetricsData(
        [
            ResourceMetrics(
                resource,
                [
                    ScopeMetrics(scope, metrics, scope.schema_url or "")
                    for scope, metrics in scopes.items()
                ],
                "",
            )
            for resource, scopes in found.items()
        ]
    )


def _metric(metric: Metric, points: Sequence[Any]) -> SDKMetric:
    data: Any
    if metric.kind == "histogram":
        data = Histogram(points, _CUMULATIVE)
    elif metric.kind == "gauge":
        data = Gauge(points)
    else:
        data = Sum(points, _CUMULATIVE, is_monotonic=metric.kind == "counter")
    return SDKMetric(metric.name, metric.description, metric.unit, data)


def _data_point(point: Point, now_ns: int, *, zero: bool) -> Any:
    attributes: Mapping[str, Any] = dict(point.key[1])
    if point.attributes == OVERFLOW:
        attributes = {"otel.metric.overflow": True}
    value = point.value
    if point.metric.kind != "histogram":
        number = 0.0 if zero or value is None or isinstance(value, HistogramValue) else float(value)
        return NumberDataPoint(attributes, point.start_time_ns, now_ns, number)
    if zero or not isinstance(value, HistogramValue):
        value = HistogramValue(0.0, [0] * (len(point.metric.buckets) + 1))
    counts = [int(count) for count in value.buckets]
    return HistogramDataPoint(
        attributes,
        point.start_time_ns,
        now_ns,
        sum(counts),
        value.sum,
        counts,
        point.metric.buckets,
        None,  # type: ignore[arg-type]  # min and max are optional in OTLP; not kept here
        None,  # type: ignore[arg-type]
    )


def from_sdk(data: MetricsData | None) -> list[Point]:
    """Convert metrics that the app recorded with the OpenTelemetry API to points."""
    found: list[Point] = []
    if data is None:
        return found
    for resource in data.resource_metrics:
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                found += _from_metric(metric)
    return found


def _from_metric(metric: SDKMetric) -> list[Point]:
    data = metric.data
    unit, description = metric.unit or "", metric.description or ""
    found = []
    if isinstance(data, Histogram):
        for h in data.data_points:
            entry = Metric(
                metric.name, "histogram", unit, description, (), tuple(h.explicit_bounds)
            )
            value = HistogramValue(h.sum, h.bucket_counts)
            found.append(Point(entry, _text(h.attributes), value, h.start_time_unix_nano))
    elif isinstance(data, (Sum, Gauge)):
        counter = isinstance(data, Sum) and data.is_monotonic
        entry = Metric(metric.name, "counter" if counter else "gauge", unit, description)
        for n in data.data_points:
            found.append(Point(entry, _text(n.attributes), n.value, n.start_time_unix_nano or 0))
    return found


def _text(attributes: Mapping[str, Any] | None) -> dict[str, str]:
    return {key: str(value) for key, value in (attributes or {}).items()}
