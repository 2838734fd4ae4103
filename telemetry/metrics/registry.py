"""The registry of this process's instruments and series.

A series' numbers are a slice of doubles (`Series.cells`): a counter's or gauge's value, or a
histogram's sum followed by its bucket counts. Recording is one or two additions to that
slice. If several workers serve one app, the slice is memory-mapped (see `multiprocess`), so
that the counts of a killed worker survive it.

`cells[i] += x` runs no Python code between its read and its write, so under the GIL no other
thread can interleave (CPython 3.11 to 3.14 switch threads at calls and backward jumps only).
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Protocol, TypeAlias

from telemetry import catalog
from telemetry.catalog import Metric
from telemetry.metrics.points import Attributes, HistogramValue, Point, Source, View, canonical

SERIES_LIMIT = 2000
"""Series that an instrument may have; further attribute sets share one overflow series.
Source: https://opentelemetry.io/docs/specs/otel/metrics/sdk/#cardinality-limits"""

Cells: TypeAlias = "list[float] | memoryview[float]"
"""A series' numbers: a list, which is faster to write, or mapped memory if workers share them."""

_SLICE = 500  # series read before the thread yields the GIL: under a millisecond

OVERFLOW: Attributes = (("otel.metric.overflow", "true"),)

_log = logging.getLogger(__name__)


class Storage(Protocol):
    """Allocates cells, and stores which series they belong to if they outlive the process."""

    def allocate(
        self, metric: Metric, attributes: Attributes, size: int, start_time_ns: int
    ) -> Cells:
        """Allocate ``size`` doubles, all zero."""

    def end(self, cells: Cells) -> None:
        """Mark the series with these cells as ended."""

    def close(self) -> None:
        """Close the storage and keep its content."""


class MemoryStorage:
    """Storage of cells in this process's own memory."""

    def allocate(
        self, metric: Metric, attributes: Attributes, size: int, start_time_ns: int
    ) -> Cells:
        return [0.0] * size

    def end(self, cells: Cells) -> None:
        pass

    def close(self) -> None:
        pass


class Series:
    """One series. A fork replaces ``cells``, so keep the series, not its cells."""

    __slots__ = ("attributes", "cells", "metric", "start_time_ns")

    def __init__(
        self, metric: Metric, attributes: Attributes, cells: Cells, start_time_ns: int
    ) -> None:
        self.metric = metric
        self.attributes = attributes
        self.cells = cells
        self.start_time_ns = start_time_ns

    def point(self) -> Point:
        cells = list(self.cells)
        value = HistogramValue(cells[0], cells[1:]) if self.metric.buckets else cells[0]
        return Point(self.metric, self.attributes, value, self.start_time_ns)


class Instrument:
    """All series of one metric in this process."""

    __slots__ = ("_by_given", "metric", "registry", "series")

    def __init__(self, registry: Registry, metric: Metric) -> None:
        self.registry = registry
        self.metric = metric
        self.series: dict[Attributes, Series] = {}
        self._by_given: dict[tuple[tuple[str, object], ...], Series] = {}

    def at(self, attributes: Mapping[str, object] | None) -> Series:
        """Get or create the series with these attributes."""
        given = tuple(attributes.items()) if attributes else ()
        try:
            found = self._by_given.get(given)
        except TypeError:  # an unhashable value: use its text
            given = canonical(attributes)
            found = self._by_given.get(given)
        if found is not None:
            return found
        key = canonical(attributes)
        series = self.registry._series(self, key)
        if series.attributes == key:  # overflowed keys are unbounded, so they are not cached
            self._by_given[given] = series
        return series

    def end(self, attributes: Mapping[str, object] | None) -> None:
        """End the series; its end is exported once, as a staleness marker."""
        self.registry._end(self, canonical(attributes))

    def _forget(self, series: Series) -> None:
        self._by_given = {k: s for k, s in self._by_given.items() if s is not series}


class Registry:
    """The instruments, sources and samplers of one process.

    Args:
        storage: allocates the cells.
        limit: the most series of an instrument, the overflow series included.
        clock: gives ns since the epoch.
    """

    def __init__(
        self,
        storage: Storage | None = None,
        *,
        limit: int = SERIES_LIMIT,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self.storage: Storage = storage or MemoryStorage()
        self.limit = limit
        self.clock = clock
        self.lock = threading.RLock()
        self.instruments: dict[str, Instrument] = {}
        self.sources: list[Source] = []
        self.samplers: list[Callable[[], None]] = []
        """Called before each collection, to set gauges that are polled."""
        self.derivations: dict[str, View] = {}
        """Views derived from points at collection, by name."""
        self.resets: list[Callable[[], None]] = []
        """Called when cached cells become invalid: in a forked child, when a run folder is used,
        around `telemetry.testing.isolated`."""
        self.isolated = False
        """True within `telemetry.testing.isolated`: nothing is started or exported."""
        self._ended: list[Point] = []
        self._storage_failed = False

    def instrument(self, metric: Metric) -> Instrument:
        found = self.instruments.get(metric.name)
        if found is not None:
            return found
        with self.lock:
            return self.instruments.setdefault(metric.name, Instrument(self, metric))

    def metrics(self) -> list[Metric]:
        """List the metrics that this process may have points of, by name, with those of sources
        and derived views."""
        found = [i.metric for i in tuple(self.instruments.values())]
        found += [m for view in tuple(self.derivations.values()) for m in view.metrics]
        found += [m for source in tuple(self.sources) for m in source.metrics]
        return sorted(found, key=lambda metric: metric.prometheus)

    def points(self) -> list[Point]:
        """Read the current points of this process, without sources and derived views."""
        for sampler in tuple(self.samplers):
            try:
                sampler()
            except Exception:
                _log.exception("telemetry: a metric sampler failed; its values are old")
        with self.lock:
            series = [s for i in self.instruments.values() for s in i.series.values()]
        found: list[Point] = []
        for start in range(0, len(series), _SLICE):
            found += [s.point() for s in series[start : start + _SLICE]]
            time.sleep(0)  # yields the GIL to the event loop if this is another thread
        return found

    def derived(self, points: list[Point]) -> list[Point]:
        return [p for derive in tuple(self.derivations.values()) for p in derive(points)]

    def take_ended(self) -> list[Point]:
        """Take the series that ended since the last call, as points without a value."""
        with self.lock:
            ended, self._ended = self._ended, []
        return ended

    def restore_ended(self, points: list[Point]) -> None:
        """Keep unexported end markers for the next export, unless the series restarted."""
        with self.lock:
            self._ended[:0] = [
                p
                for p in points
                if (i := self.instruments.get(p.metric.name)) is None or p.key[1] not in i.series
            ]

    def end_where(self, wanted: Callable[[Series], bool]) -> None:
        """End every series for which ``wanted`` is true."""
        with self.lock:
            for instrument in self.instruments.values():
                for series in [s for s in instrument.series.values() if wanted(s)]:
                    self._end(instrument, series.attributes)

    def move(self, storage: Storage, *, keep: bool) -> None:
        """Move all series to new storage.

        Args:
            storage: the new one.
            keep: whether they keep their counts. A forked child starts at 0, because the
                parent still reports its own counts.
        """
        with self.lock:
            self.storage = storage
            now = self.clock()
            for instrument in self.instruments.values():
                for series in instrument.series.values():
                    old = series.cells
                    if not keep:
                        series.start_time_ns = now
                    series.cells = storage.allocate(
                        series.metric, series.attributes, len(old), series.start_time_ns
                    )
                    if keep:
                        for index, value in enumerate(old):
                            series.cells[index] = value
        self.reset()

    def reset(self) -> None:
        """Clear the caches of cells outside of the registry."""
        for clear in tuple(self.resets):
            clear()

    def after_fork(self) -> None:
        """Drop the parent's counts and locks, in a forked child."""
        self.lock = threading.RLock()  # a thread of the parent may have held the old one
        self.storage.close()
        self.storage = MemoryStorage()
        # Series that describe the parent, and gauges: their values are unknown here, not 0.
        self.end_where(lambda s: s.metric.kind == "gauge" or "worker" in dict(s.attributes))
        self._ended = []
        self.move(self.storage, keep=False)

    def _series(self, instrument: Instrument, key: Attributes) -> Series:
        with self.lock:
            found = instrument.series.get(key)
            if found is not None:
                return found
            # The limit includes the overflow series.
            if len(instrument.series) >= self.limit - 1 and key != OVERFLOW:
                if OVERFLOW not in instrument.series:
                    _log.warning(
                        "telemetry: %s has %d series; further ones are counted together under "
                        "otel.metric.overflow",
                        instrument.metric.name,
                        self.limit - 1,
                    )
                return self._series(instrument, OVERFLOW)
            now = self.clock()
            metric = instrument.metric
            cells = self._allocate(metric, key, now)
            series = Series(metric, key, cells, now)
            instrument.series[key] = series
            self._ended = [p for p in self._ended if p.key != (metric.name, key)]
            return series

    def _allocate(self, metric: Metric, key: Attributes, now: int) -> Cells:
        try:
            return self.storage.allocate(metric, key, _size(metric), now)
        except OSError as error:
            # A full disk: only this worker reports the new series.
            if not self._storage_failed:
                _log.warning(
                    "telemetry: the run folder has no room for new series: %s. This worker reports "
                    "them alone; free disk space and restart it.",
                    error,
                )
            self._storage_failed = True
            return MemoryStorage().allocate(metric, key, _size(metric), now)

    def _end(self, instrument: Instrument, key: Attributes) -> None:
        with self.lock:
            series = instrument.series.pop(key, None)
            if series is None:
                return
            instrument._forget(series)
            with contextlib.suppress(OSError):  # a full disk: the series ends with the process
                self.storage.end(series.cells)
            self._ended.append(Point(series.metric, key, None, series.start_time_ns))

    def dropped(self, signal: str, reason: str, n: float = 1) -> None:
        """Count ``n`` items that telemetry dropped."""
        counter = self.instrument(catalog.TELEMETRY_DROPPED)
        counter.at({"signal": signal, "reason": reason}).cells[0] += n


def _size(metric: Metric) -> int:
    return len(metric.buckets) + 2 if metric.buckets else 1
