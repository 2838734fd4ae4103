"""Metrics derived from other metrics at collection."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from telemetry import catalog
from telemetry.catalog import Metric
from telemetry.metrics.points import HistogramValue, Point, merged

_UNMATCHED = "unmatched"


class NamespacedHTTP:
    """HTTP metrics under the names of a namespace: ``<namespace>_http_requests_total`` and
    ``<namespace>_http_request_duration_seconds``.

    Both come from the buckets of the semantic conventions' histogram, which has all of their
    bounds.

    Args:
        namespace: the prefix, e.g. ``gateway``.
    """

    def __init__(self, namespace: str) -> None:
        self._requests = catalog.METRICS.get(f"{namespace}.http.requests") or Metric(
            f"{namespace}.http.requests", "counter", "{request}", "Requests answered.",
            ("method", "path", "status"),
        )  # fmt: skip
        self._duration = catalog.METRICS.get(f"{namespace}.http.request.duration") or Metric(
            f"{namespace}.http.request.duration", "histogram", "s", "Time to answer a request.",
            ("method", "path"), catalog.NAMESPACED_BUCKETS,
        )  # fmt: skip
        self.metrics = (self._requests, self._duration)
        source = catalog.HTTP_SERVER_REQUEST_DURATION.buckets
        self._ends = [source.index(bound) + 1 for bound in self._duration.buckets]

    def __call__(self, points: Sequence[Point]) -> list[Point]:
        found = []
        for point in points:
            value = point.value
            if point.metric.name != catalog.HTTP_SERVER_REQUEST_DURATION.name:
                continue
            if not isinstance(value, HistogramValue):
                continue
            attributes = dict(point.attributes)
            labels = {
                "method": attributes.get("http.request.method", ""),
                "path": attributes.get("http.route", _UNMATCHED),
            }
            status = {"status": _status(attributes)}
            total = sum(value.buckets)
            start = point.start_time_ns
            found.append(Point(self._requests, labels | status, total, start))
            coarse = HistogramValue(value.sum, self._coarser(value.buckets))
            found.append(Point(self._duration, labels, coarse, start))
        return merged(found)

    def _coarser(self, buckets: Sequence[float]) -> list[float]:
        edges = [0, *self._ends, len(buckets)]
        return [sum(buckets[a:b]) for a, b in pairwise(edges)]


def _status(attributes: dict[str, str]) -> str:
    code = attributes.get("http.response.status_code", "")
    # 499, as in nginx: the client disconnected before there was a status.
    return code or "499"
