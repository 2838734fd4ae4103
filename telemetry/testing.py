"""For tests of instrumented apps: what was counted, without a collector, and a clean slate.

def test_orders_are_counted():
    with telemetry.testing.isolated() as recorded:
        place_order()
        assert recorded.value("shop_orders_total", country="de") == 1
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
    """What this process has counted since `isolated` began."""

    def points(self) -> list[Point]:
        """All present points, derived views and sources included."""
        return _points()

    def value(self, name: str, **labels: str) -> float | None:
        """The value of one series by its Prometheus name, of a histogram its count; None
        where there is no such series.

        Args:
            name: e.g. ``http_server_request_duration_seconds``.
            labels: Prometheus labels that it must have; further ones don't matter. Several
                matching series are added up.
        """
        found = [
            _plain(point.value)
            for point in _points()
            if point.metric.prometheus == name and _has(point, labels)
        ]
        return sum(found) if found else None


def collect() -> dict[tuple[str, Labels], float]:
    """All present values by Prometheus name and labels; a histogram's is its count."""
    return {(point.metric.prometheus, _labels(point)): _plain(point.value) for point in _points()}


@contextmanager
def isolated() -> Iterator[Recorded]:
    """All series begin at nothing, and what was there before is back afterwards. Instruments
    made earlier go on working inside."""
    registry = metrics.current()
    with registry.lock:
        before = {
            name: (dict(i.series), dict(i._by_given)) for name, i in registry.instruments.items()
        }
        sources, derivations = list(registry.sources), dict(registry.derivations)
        storage, registry.storage = registry.storage, MemoryStorage()
        for instrument in registry.instruments.values():
            instrument.series, instrument._by_given = {}, {}
        registry.sources.clear()
    try:
        yield Recorded()
    finally:
        instrumentation.shutdown()
        with registry.lock:
            registry.storage = storage
            registry.sources[:] = sources
            registry.derivations.clear()
            registry.derivations.update(derivations)
            for name, instrument in registry.instruments.items():
                instrument.series, instrument._by_given = before.get(name, ({}, {}))


def fixed_clock(start_ns: int = 1_700_000_000_000_000_000, step_ns: int = 0) -> Callable[[], int]:
    """A clock in ns since the epoch that moves by ``step_ns`` at each look."""
    ticks = itertools.count()
    return lambda: start_ns + step_ns * next(ticks)


def _points() -> list[Point]:
    registry = metrics.current()
    points = registry.points()
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
