"""Metrics, pre-aggregated in the process and read at each collection.

    orders = metrics.counter(catalog.Metric("shop.orders", "counter", "{order}", "Orders."))
    orders.add(1, {"country": "de"})

One ``add`` of the OpenTelemetry SDK costs about 7 µs, most of it for hashing attributes. Here
one on a bound series costs 0.2 µs. The SDK's exporters still get real data points.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping

from telemetry.catalog import Metric
from telemetry.metrics.points import Batch, HistogramValue, Point, Source
from telemetry.metrics.registry import Instrument, Registry, Series

__all__ = [
    "Batch",
    "Counter",
    "Gauge",
    "Histogram",
    "HistogramValue",
    "Point",
    "Source",
    "counter",
    "current",
    "dropped",
    "gauge",
    "histogram",
    "register_source",
]

_registry = Registry()


def current() -> Registry:
    """Get the registry of this process."""
    return _registry


def register_source(source: Source) -> None:
    """Collect ``source`` together with this process's own series."""
    _registry.sources.append(source)


def dropped(signal: str, reason: str, n: float = 1) -> None:
    """Count ``n`` items that telemetry dropped, as ``telemetry_dropped_total``."""
    _registry.dropped(signal, reason, n)


class BoundCounter:
    """One series of a counter."""

    __slots__ = ("_series",)

    def __init__(self, series: Series) -> None:
        self._series = series

    def add(self, value: float = 1) -> None:
        self._series.cells[0] += value


class BoundGauge:
    """One series of a gauge."""

    __slots__ = ("_series",)

    def __init__(self, series: Series) -> None:
        self._series = series

    def set(self, value: float) -> None:
        self._series.cells[0] = value

    def add(self, value: float) -> None:
        self._series.cells[0] += value


class BoundHistogram:
    """One series of a histogram."""

    __slots__ = ("_bounds", "_series")

    def __init__(self, series: Series) -> None:
        self._series = series
        self._bounds = series.metric.buckets

    def record(self, value: float) -> None:
        index = bisect_left(self._bounds, value) + 1
        cells = self._series.cells
        cells[index] += 1
        cells[0] += value


class _PublicInstrument:
    def __init__(self, instrument: Instrument) -> None:
        self._instrument = instrument

    @property
    def metric(self) -> Metric:
        """The catalog entry."""
        return self._instrument.metric

    def touch(self, attributes: Mapping[str, str] | None = None) -> None:
        """Create the series at 0 unless it exists."""
        self._instrument.at(attributes)

    def end(self, attributes: Mapping[str, str] | None = None) -> None:
        """End the series: dashboards and alerts lose it at the next export."""
        self._instrument.end(attributes)


class Counter(_PublicInstrument):
    """A value that only rises. Drops negative and non-finite amounts, and counts the drop."""

    def add(self, value: float = 1, attributes: Mapping[str, str] | None = None) -> None:
        """Add ``value``, in the metric's unit."""
        if not 0 <= value < float("inf"):
            dropped("metrics", "invalid_value")
            return
        self._instrument.at(attributes).cells[0] += value

    def set_total(
        self, total: float, attributes: Mapping[str, str] | None = None, start_time_ns: int = 0
    ) -> None:
        """Set the total that something else counts. A lower total means that it restarted.

        Args:
            total: in the metric's unit.
            attributes: of the series.
            start_time_ns: when the total was 0, in ns since the epoch. If it isn't given, the
                series starts at 0 now, and the whole first total counts as an increase.
        """
        with self._instrument.registry.lock:  # no collection sees start and total disagree
            series = self._instrument.at(attributes)
            if start_time_ns:
                series.start_time_ns = start_time_ns
            series.cells[0] = total

    def bind(self, attributes: Mapping[str, str] | None = None) -> BoundCounter:
        """Bind one series, for hot paths. Don't use it after `end`."""
        return BoundCounter(self._instrument.at(attributes))


class Gauge(_PublicInstrument):
    """A current value, which rises and falls."""

    def set(self, value: float, attributes: Mapping[str, str] | None = None) -> None:
        """Set the current value, in the metric's unit."""
        self._instrument.at(attributes).cells[0] = value

    def add(self, value: float, attributes: Mapping[str, str] | None = None) -> None:
        """Add to the value; a negative amount lowers it."""
        self._instrument.at(attributes).cells[0] += value

    def bind(self, attributes: Mapping[str, str] | None = None) -> BoundGauge:
        """Bind one series, for hot paths. Don't use it after `end`."""
        return BoundGauge(self._instrument.at(attributes))


class Histogram(_PublicInstrument):
    """A distribution of values over the metric's buckets."""

    def record(self, value: float, attributes: Mapping[str, str] | None = None) -> None:
        """Record ``value``, in the metric's unit. Drop a NaN, and count the drop."""
        if value != value:
            dropped("metrics", "invalid_value")
            return
        series = self._instrument.at(attributes)
        index = bisect_left(series.metric.buckets, value) + 1
        cells = series.cells
        cells[index] += 1
        cells[0] += value

    def bind(self, attributes: Mapping[str, str] | None = None) -> BoundHistogram:
        """Bind one series, for hot paths. Don't use it after `end`."""
        return BoundHistogram(self._instrument.at(attributes))


def counter(metric: Metric) -> Counter:
    """Get or create the counter of a catalog entry."""
    return Counter(_registry.instrument(_of_kind(metric, "counter")))


def gauge(metric: Metric) -> Gauge:
    """Get or create the gauge or up-down counter of a catalog entry."""
    return Gauge(_registry.instrument(_of_kind(metric, "gauge", "updowncounter")))


def histogram(metric: Metric) -> Histogram:
    """Get or create the histogram of a catalog entry."""
    return Histogram(_registry.instrument(_of_kind(metric, "histogram")))


def _of_kind(metric: Metric, *kinds: str) -> Metric:
    if metric.kind not in kinds:
        raise TypeError(f"{metric.name} is a {metric.kind}, not a {' or '.join(kinds)}")
    if metric.kind == "histogram" and not metric.buckets:
        raise TypeError(f"{metric.name} is a histogram without buckets")
    return metric
