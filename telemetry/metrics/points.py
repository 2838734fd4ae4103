"""Points and batches, the result of a collection."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from telemetry.catalog import Metric

Attributes = tuple[tuple[str, str], ...]
"""A series' attributes, sorted by key: hashable, and independent of the order given."""


def canonical(attributes: Mapping[str, object] | None) -> Attributes:
    """Bring attributes into canonical form: values become text, and empty ones are left out,
    as in Prometheus."""
    if not attributes:
        return ()
    pairs = ((key, encodable(str(value))) for key, value in attributes.items())
    return tuple(sorted(pair for pair in pairs if pair[1]))


def encodable(text: str) -> str:
    """Replace each lone surrogate in ``text`` by ``?``.

    Undecodable bytes become such surrogates. They can't be encoded as UTF-8, and one of them
    would cost the whole batch.
    """
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


# These two are not frozen: one scrape may create 10,000, and a frozen one takes three times as
# long to create.
@dataclass(slots=True)
class HistogramValue:
    """A histogram's state.

    Args:
        sum: sum of all values, in the metric's unit.
        buckets: counts per bucket, not cumulative: one per bound of the metric, then one for
            +Inf.
    """

    sum: float
    buckets: Sequence[float]


@dataclass(slots=True)
class Point:
    """The value of one series at one time.

    Args:
        metric: its catalog entry.
        attributes: a mapping, or attributes in canonical form.
        value: a number, a histogram's state, or None for a series that has ended.
        start_time_ns: when the series was 0, in ns since the epoch. A series younger than ten
            minutes is first exported as 0 at this time; otherwise `increase()` would miss its
            first value (prometheus#3886).
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
    """Points stored elsewhere, such as in a ledger that several processes share."""

    @property
    def resource(self) -> Mapping[str, str]:
        """Resource attributes of these points; they override the process's own."""

    @property
    def metrics(self) -> Sequence[Metric]:
        """The metrics that `collect` may yield points of."""

    def collect(self) -> Iterable[Point]:
        """Read the current points. Called in a thread; may block."""

    def leads(self) -> bool:
        """Decide whether this process is the one that exports them over OTLP."""


class View(Protocol):
    """Points derived from other points at collection."""

    @property
    def metrics(self) -> Sequence[Metric]:
        """The metrics of the derived points."""

    def __call__(self, points: Sequence[Point], /) -> list[Point]:
        """Derive points from ``points``."""


def merged(points: Iterable[Point]) -> list[Point]:
    """Add up points of the same series; keep the order in which each first appears."""
    sums: dict[tuple[str, Attributes], Point] = {}
    for point in points:
        key = point.key
        other = sums.get(key)
        sums[key] = point if other is None else _sum(other, point)
    return list(sums.values())


def _sum(a: Point, b: Point) -> Point:
    if a.metric.buckets != b.metric.buckets:
        return a  # workers of different versions; keep the first, which is this process's
    value: float | HistogramValue | None
    if isinstance(a.value, HistogramValue) and isinstance(b.value, HistogramValue):
        buckets = [x + y for x, y in zip(a.value.buckets, b.value.buckets, strict=True)]
        value = HistogramValue(a.value.sum + b.value.sum, buckets)
    elif isinstance(a.value, HistogramValue) or isinstance(b.value, HistogramValue):
        value = a.value  # workers of different versions: one name, two kinds; keep the first
    else:
        value = None if a.value is None and b.value is None else (a.value or 0) + (b.value or 0)
    return Point(a.metric, a.attributes, value, min(a.start_time_ns, b.start_time_ns))
