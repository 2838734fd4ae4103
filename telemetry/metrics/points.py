"""What a collection yields: points, and the batches they travel in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from telemetry.catalog import Metric

Attributes = tuple[tuple[str, str], ...]
"""A series' attributes, sorted by key: hashable, and the same however they were given."""


def canonical(attributes: Mapping[str, object] | None) -> Attributes:
    """Attributes in their one form; values become text, empty ones are left out, as
    Prometheus does."""
    if not attributes:
        return ()
    pairs = ((key, encodable(str(value))) for key, value in attributes.items())
    return tuple(sorted(pair for pair in pairs if pair[1]))


def encodable(text: str) -> str:
    """``text`` with a ``?`` for each half of a surrogate pair, such as undecodable bytes leave:
    nothing that is sent may hold one, and a whole batch would be refused for it."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


# These two are not frozen: 10,000 may be made for one scrape, and frozen ones take three times
# as long to make.
@dataclass(slots=True)
class HistogramValue:
    """A histogram's state.

    Args:
        sum: sum of all values, in the metric's unit.
        buckets: counts per bucket, not cumulative; one more than the metric's bounds, the
            last for +Inf.
    """

    sum: float
    buckets: Sequence[float]


@dataclass(slots=True)
class Point:
    """One series at one moment.

    Args:
        metric: its catalog entry.
        attributes: a mapping, or attributes in canonical form.
        value: a number, a histogram's state, or None for a series that has ended.
        start_time_ns: when the series began to count from 0, in ns since the epoch. A series
            younger than ten minutes is first exported as 0 at this time, since `increase()`
            misses the first value of a series otherwise (prometheus#3886).
    """

    metric: Metric
    attributes: Attributes | Mapping[str, str]
    value: float | HistogramValue | None
    start_time_ns: int

    @property
    def key(self) -> tuple[str, Attributes]:
        """The series' identity: metric name and canonical attributes."""
        attributes = self.attributes
        return self.metric.name, (
            attributes if isinstance(attributes, tuple) else canonical(attributes)
        )


@dataclass(frozen=True, slots=True)
class Batch:
    """Points of one OpenTelemetry resource."""

    resource: Mapping[str, str]
    points: Sequence[Point]


class Source(Protocol):
    """Numbers that live elsewhere, such as a ledger shared by several processes."""

    @property
    def resource(self) -> Mapping[str, str]:
        """Resource attributes of these numbers, over the process's own."""

    @property
    def metrics(self) -> Sequence[Metric]:
        """What `collect` may yield points of."""

    def collect(self) -> Iterable[Point]:
        """The present points. Called in a thread; may block."""

    def leads(self) -> bool:
        """Whether this process is the one that exports them over OTLP."""


class View(Protocol):
    """Points that are worked out from others when they are collected."""

    @property
    def metrics(self) -> Sequence[Metric]:
        """What it makes points of."""

    def __call__(self, points: Sequence[Point], /) -> list[Point]:
        """The view of these points."""


def merged(points: Iterable[Point]) -> list[Point]:
    """Points with the same identity added up, in the order first seen."""
    sums: dict[tuple[str, Attributes], Point] = {}
    for point in points:
        key = point.key
        other = sums.get(key)
        sums[key] = point if other is None else _sum(other, point)
    return list(sums.values())


def _sum(a: Point, b: Point) -> Point:
    if a.metric.buckets != b.metric.buckets:
        return a  # versions differ between workers; keep the first, which is one's own
    value: float | HistogramValue | None
    if isinstance(a.value, HistogramValue) and isinstance(b.value, HistogramValue):
        buckets = [x + y for x, y in zip(a.value.buckets, b.value.buckets, strict=True)]
        value = HistogramValue(a.value.sum + b.value.sum, buckets)
    elif isinstance(a.value, HistogramValue) or isinstance(b.value, HistogramValue):
        value = a.value  # one name, two kinds: versions differ between workers; keep the first
    else:
        value = None if a.value is None and b.value is None else (a.value or 0) + (b.value or 0)
    return Point(a.metric, a.attributes, value, min(a.start_time_ns, b.start_time_ns))
