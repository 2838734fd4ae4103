"""Take the metrics of a container apart: its own name on them, and not more series than allowed.

A series is what Prometheus stores: the values of one resource, scope, name and set of attributes.
A histogram is as many as it has buckets, and two; a resource is one, `target_info`.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)

from telemetry.services.http import HTTPError
from telemetry.services.platform.relay.admission import Refused
from telemetry.settings.stack import OWN_SERVICES

# Decoding takes up to fifty times a body's size: an empty point has two bytes in a body.
MAX_METRICS_BYTES = 4 << 20
# Resources, scopes, metrics, points and attributes of one body. Reading one takes about 1 µs.
MAX_ITEMS = 200_000
FORGET_S = 900  # Prometheus shows a series for five minutes after its last value
HANDLE = "handle"


class KnownSeries:
    """The series that one container sent lately.

    Args:
        limit: how many these may be.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        # Hash of the series, least recently sent first, to when it was sent and what it counts as.
        self._sent: dict[int, tuple[float, int]] = {}
        self._count = 0

    def forget_old(self, now: float) -> None:
        """Forget series that were not sent for a while."""
        while self._sent:
            oldest = next(iter(self._sent))
            sent_at, weight = self._sent[oldest]
            if now - sent_at < FORGET_S:
                return
            del self._sent[oldest]
            self._count -= weight

    def take(self, identity: int, weight: int, now: float) -> bool:
        """Note that a series is sent; False if it is a new one and there is no room for it."""
        known = self._sent.pop(identity, None)
        if known is None:
            if self._count + weight > self._limit:
                return False
            self._count += weight
        else:
            weight = known[1]
        self._sent[identity] = (now, weight)
        return True


class SeriesLimit:
    """Rewrites the metrics of all containers. Not thread-safe: for one thread.

    Args:
        limit: series that one container may have.
        clock: monotonic seconds.
    """

    def __init__(self, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._clock = clock
        self._known: dict[str, KnownSeries] = {}

    def apply(self, handle: str, body: bytes) -> tuple[bytes, int]:
        """Label a container's metrics as its own, and leave out new series beyond the limit.

        Args:
            handle: the container's.
            body: an ``ExportMetricsServiceRequest``.

        Returns:
            The body to forward, empty if nothing is left, and the number of points left out.

        Raises:
            HTTPError: the body is not such a request.
            Refused: it is too large.
        """
        if len(body) > MAX_METRICS_BYTES:
            raise Refused(
                "size",
                413,
                f"the metrics are larger than {MAX_METRICS_BYTES} bytes, uncompressed",
                "send less at once",
            )
        try:
            request = ExportMetricsServiceRequest.FromString(body)
        except DecodeError as error:
            raise HTTPError(400, f"the body is not OTLP metrics: {error}") from error
        # The Collector knows fields that this library doesn't: what isn't counted isn't passed on.
        request.DiscardUnknownFields()
        now = self._clock()
        known = self._known.setdefault(handle, KnownSeries(self._limit))
        known.forget_old(now)
        kept, dropped = _apply(request, handle, lambda series, n: known.take(series, n, now))
        return (request.SerializeToString() if kept else b""), dropped

    def forget(self, handle: str) -> None:
        """Forget a container that is gone."""
        self._known.pop(handle, None)


def partial_success(answer: bytes, dropped: int, limit: int) -> bytes:
    """Add the points that were left out to the Collector's answer.

    Args:
        answer: an ``ExportMetricsServiceResponse``, may be empty.
        dropped: number of points left out.
        limit: the limit that the container exceeds.
    """
    response = ExportMetricsServiceResponse.FromString(answer)
    said = response.partial_success
    said.rejected_data_points += dropped
    said.error_message = (
        f"{dropped} points dropped: this container has more than {limit} series; "
        "use fewer attribute values, or raise TELEMETRY_PLATFORM_RELAY_SERIES"
    )
    return bytes(response.SerializeToString())


def _apply(
    request: ExportMetricsServiceRequest, handle: str, take: Callable[[int, int], bool]
) -> tuple[int, int]:
    """Rewrite a request in place; returns how many points are kept and how many dropped."""
    kept = dropped = 0
    budget = _Budget()
    for resource_metrics in request.resource_metrics:
        resource = resource_metrics.resource
        budget.spend(1 + len(resource.attributes))
        _label(resource.attributes, handle)
        whose = resource.SerializeToString()
        has_room = take(hash(whose), 1)
        for scope_metrics in resource_metrics.scope_metrics:
            scope = scope_metrics.scope.SerializeToString()
            budget.spend(1)
            for metric in scope_metrics.metrics:
                kind = metric.WhichOneof("data")
                budget.spend(1)
                if kind is None:
                    continue
                data = getattr(metric, kind)
                same = (whose, scope, metric.name, metric.unit, kind)
                fits = [
                    has_room and take(hash((*same, *identity)), weight)
                    for identity, weight in _series(data.data_points, budget)
                ]
                kept += sum(fits)
                if not all(fits):
                    dropped += len(fits) - sum(fits)
                    points = [p for p, fit in zip(data.data_points, fits, strict=True) if fit]
                    data.ClearField("data_points")
                    data.data_points.extend(points)
    return kept, dropped


def _series(points: Iterable[Any], budget: _Budget) -> Iterator[tuple[tuple[Any, ...], int]]:
    """Yield what distinguishes each point's series within its metric, and how many it is."""
    for point in points:
        attributes = point.attributes
        budget.spend(1 + len(attributes))
        _remove(attributes, HANDLE)
        # As bytes: Python's hash of these can't be steered by a container, that of numbers can.
        identity: tuple[Any, ...] = tuple(sorted([each.SerializeToString() for each in attributes]))
        weight = 1
        if bounds := getattr(point, "explicit_bounds", None):
            weight = len(bounds) + 3
            identity = (array("d", bounds).tobytes(), *identity)
        elif quantiles := getattr(point, "quantile_values", None):
            budget.spend(len(quantiles))
            weight = len(quantiles) + 2
            identity = (array("d", [each.quantile for each in quantiles]).tobytes(), *identity)
        yield identity, weight


def _label(attributes: Any, handle: str) -> None:
    """Set a resource's handle, and keep it from the names of this machine's services.

    OTLP forbids two attributes of one name, but a sender may not care, and which one counts
    depends on the reader: the first is kept.
    """
    found: dict[str, Any] = {}
    for each in attributes:
        found.setdefault(each.key, each)
    found.pop(HANDLE, None)
    service = found.pop("service.name", None)
    name = (service.value.string_value if service is not None else "") or handle
    kept = list(found.values())
    del attributes[:]
    attributes.extend(kept)
    attributes.add(key="service.name").value.string_value = (
        f"{handle}/{name}" if name in OWN_SERVICES else name
    )
    attributes.add(key=HANDLE).value.string_value = handle


def _remove(attributes: Any, key: str) -> None:
    for index in reversed(range(len(attributes))):
        if attributes[index].key == key:
            del attributes[index]


class _Budget:
    """What one body may consist of."""

    def __init__(self) -> None:
        self._left = MAX_ITEMS

    def spend(self, items: int) -> None:
        self._left -= items
        if self._left < 0:
            raise Refused(
                "size",
                413,
                f"the metrics consist of more than {MAX_ITEMS} points and attributes",
                "send less at once",
            )
