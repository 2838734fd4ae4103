"""Helpers for tests of instrumented apps: recorded metrics without a Collector, isolated.

    def test_orders_are_counted():
        with telemetry.testing.isolated() as recorded:
            TestClient(app).post("/orders/7")
        assert recorded.value("shop_orders_total", country="de") == 1

The app may be instrumented before, when its module is imported, or within the block. Within the
block nothing is exported and no thread is started.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from telemetry import instrumentation, metrics
from telemetry.metrics.points import HistogramValue, Point
from telemetry.metrics.registry import MemoryStorage
from telemetry.naming import label_name

__all__ = ["Recorded", "collect", "fixed_clock", "isolated"]

Labels = tuple[tuple[str, str], ...]


class Recorded:
    """The points recorded since the start of `isolated`; after its end, those up to then."""

    def __init__(self) -> None:
        self._final: list[Point] | None = None

    def points(self) -> list[Point]:
        """Collect all points, with derived views and sources."""
        return _points() if self._final is None else self._final

    def value(self, name: str, **labels: str) -> float | None:
        """Get the value of a series by its Prometheus name; None if there is no such series.

        The value of a histogram is its count. Several matching series are added up.

        Args:
            name: e.g. ``http_server_request_duration_seconds``.
            labels: Prometheus labels that the series must have. It may have others; ``""`` means
                that it must not have this label.
        """
        found = [
            _plain(point.value)
            for point in self.points()
            if point.metric.prometheus == name and _has(point, labels)
        ]
        return sum(found) if found else None

    def end(self) -> None:
        """Keep the points recorded so far, and ignore later ones."""
        self._final = self.points()


def collect() -> dict[tuple[str, Labels], float]:
    """Collect all current values by Prometheus name and labels; a histogram's is its count."""
    return {(point.metric.prometheus, _labels(point)): _plain(point.value) for point in _points()}


class _Untouched(list[float]):
    """Cells of a series created before the block: it is hidden until it is written to."""

    touched = False

    def __setitem__(self, index: Any, value: Any) -> None:
        self.touched = True
        super().__setitem__(index, value)


@contextmanager
def isolated() -> Iterator[Recorded]:
    """Reset all series for a block, and restore them afterwards.

    Instruments, bound series and instrumented apps created before the block work within it. Don't
    use series bound within the block after it.
    """
    registry = metrics.current()
    pipeline = instrumentation.replace_pipeline(None)
    with registry.lock:
        before = {
            name: (dict(i.series), dict(i._by_given)) for name, i in registry.instruments.items()
        }
        cells = [
            (s, s.cells, s.start_time_ns) for series, _ in before.values() for s in series.values()
        ]
        sources, derivations = list(registry.sources), dict(registry.derivations)
        storage, registry.storage = registry.storage, MemoryStorage()
        nested, registry.isolated = registry.isolated, True
        for series, old, _ in cells:
            series.cells, series.start_time_ns = _Untouched([0.0] * len(old)), registry.clock()
        registry.sources.clear()
        registry.reset()
    recorded = Recorded()
    try:
        yield recorded
    finally:
        recorded.end()
        inside = instrumentation.replace_pipeline(pipeline)
        if inside is not None:
            inside.shutdown()
        with registry.lock:
            registry.storage, registry.isolated = storage, nested
            registry.sources[:] = sources
            registry.derivations.clear()
            registry.derivations.update(derivations)
            for name, instrument in registry.instruments.items():
                instrument.series, instrument._by_given = before.get(name, ({}, {}))
            for series, old, start in cells:
                series.cells, series.start_time_ns = old, start
            registry.reset()


def fixed_clock(start_ns: int = 1_700_000_000_000_000_000, step_ns: int = 0) -> Callable[[], int]:
    """Create a clock in ns since the epoch that advances by ``step_ns`` at each reading."""
    ticks = itertools.count()
    return lambda: start_ns + step_ns * next(ticks)


def _points() -> list[Point]:
    registry = metrics.current()
    untouched = {
        (series.metric.name, series.attributes)
        for instrument in tuple(registry.instruments.values())
        for series in tuple(instrument.series.values())
        if isinstance(series.cells, _Untouched) and not series.cells.touched
    }
    points = [point for point in registry.points() if point.key not in untouched]
    points += registry.derived(points)
    for source in registry.sources:
        points += source.collect()
    return points


def _labels(point: Point) -> Labels:
    return tuple((label_name(key), value) for key, value in point.key[1])


def _has(point: Point, labels: dict[str, Any]) -> bool:
    given = dict(_labels(point))
    return all(given.get(key, "") == value for key, value in labels.items())


def _plain(value: float | HistogramValue | None) -> float:
    if isinstance(value, HistogramValue):
        return float(sum(value.buckets))
    return float("nan") if value is None else float(value)
