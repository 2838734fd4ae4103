"""Every series of this process: where its numbers live and how they are found again.

A series' numbers are a slice of doubles (`Series.cells`): a counter's or gauge's value, or a
histogram's sum followed by its bucket counts. Recording is one or two additions to that
slice. Where several workers serve one app the slice is memory-mapped (see `workers`), so
that what a killed worker counted survives it.

`cells[i] += x` runs no Python code between its read and its write, so under the GIL no other
thread gets in between (CPython 3.11 to 3.14 switch threads at calls and backward jumps only).
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
"""Series an instrument may have; what comes after shares one overflow series.
Source: https://opentelemetry.io/docs/specs/otel/metrics/sdk/#cardinality-limits"""

Cells: TypeAlias = "list[float] | memoryview[float]"
"""A series' numbers: a list where nobody shares them, which is quicker to write, else mapped
memory."""

_SLICE = 500  # series read between two offers of the interpreter: under a millisecond

OVERFLOW: Attributes = (("otel.metric.overflow", "true"),)

_log = logging.getLogger(__name__)


class Storage(Protocol):
    """Gives out cells, and remembers what they mean where that outlives the process."""

    def allocate(
        self, metric: Metric, attributes: Attributes, size: int, start_time_ns: int
    ) -> Cells:
        """``size`` doubles, all zero."""

    def end(self, cells: Cells) -> None:
        """The series with these cells has ended."""

    def close(self) -> None:
        """Let go of it, without touching what is written."""


class MemoryStorage:
    """Cells in this process's own memory."""

    def allocate(
        self, metric: Metric, attributes: Attributes, size: int, start_time_ns: int
    ) -> Cells:
        return [0.0] * size

    def end(self, cells: Cells) -> None:
        pass

    def close(self) -> None:
        pass


class Series:
    """One series. ``cells`` is replaced after a fork, so hold the series, not its cells."""

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
        """The series with these attributes, made if need be."""
        given = tuple(attributes.items()) if attributes else ()
        try:
            found = self._by_given.get(given)
        except TypeError:  # an unhashable value; its text will do
            given = canonical(attributes)
            found = self._by_given.get(given)
        if found is not None:
            return found
        key = canonical(attributes)
        series = self.registry._series(self, key)
        if series.attributes == key:  # never remember what overflowed: unbounded keys
            self._by_given[given] = series
        return series

    def end(self, attributes: Mapping[str, object] | None) -> None:
        """The series ends on purpose; its end is exported once."""
        self.registry._end(self, canonical(attributes))

    def _forget(self, series: Series) -> None:
        self._by_given = {k: s for k, s in self._by_given.items() if s is not series}


class Registry:
    """The instruments, sources and samplers of one process.

    Args:
        storage: where cells come from.
        limit: series an instrument may have before the overflow series.
        clock: ns since the epoch.
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
        """Called before each collection, to set gauges that are read rather than told."""
        self.derivations: dict[str, View] = {}
        """Views computed from points when collected, by name."""
        self.resets: list[Callable[[], None]] = []
        """Called when cells that somebody remembers are no longer the ones that count: in a
        fork's child, in a run folder, around `telemetry.testing.isolated`."""
        self.isolated = False
        """Whether a test looks (`telemetry.testing`): nothing is started or exported then."""
        self._ended: list[Point] = []
        self._storage_failed = False

    def instrument(self, metric: Metric) -> Instrument:
        found = self.instruments.get(metric.name)
        if found is not None:
            return found
        with self.lock:
            return self.instruments.setdefault(metric.name, Instrument(self, metric))

    def metrics(self) -> list[Metric]:
        """What this process may have points of, by name, with sources and derived views."""
        found = [i.metric for i in tuple(self.instruments.values())]
        found += [m for view in tuple(self.derivations.values()) for m in view.metrics]
        found += [m for source in tuple(self.sources) for m in source.metrics]
        return sorted(found, key=lambda metric: metric.prometheus)

    def points(self) -> list[Point]:
        """The present points of this process, without sources and derived views."""
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
            time.sleep(0)  # the event loop's turn, where this is another thread
        return found

    def derived(self, points: list[Point]) -> list[Point]:
        return [p for derive in tuple(self.derivations.values()) for p in derive(points)]

    def take_ended(self) -> list[Point]:
        """Series ended since the last call, as points without a value."""
        with self.lock:
            ended, self._ended = self._ended, []
        return ended

    def give_back_ended(self, points: list[Point]) -> None:
        """Ends that could not be exported, for the next time, unless begun anew."""
        with self.lock:
            self._ended[:0] = [
                p
                for p in points
                if (i := self.instruments.get(p.metric.name)) is None or p.key[1] not in i.series
            ]

    def end_where(self, wanted: Callable[[Series], bool]) -> None:
        """End every series that ``wanted`` picks."""
        with self.lock:
            for instrument in self.instruments.values():
                for series in [s for s in instrument.series.values() if wanted(s)]:
                    self._end(instrument, series.attributes)

    def move(self, storage: Storage, *, keep: bool) -> None:
        """All series into new storage: with what they counted so far, or from 0, as a fork's
        child needs, since what the parent counted stays the parent's."""
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
        """Have forgotten what is remembered of series outside."""
        for forget in tuple(self.resets):
            forget()

    def after_fork(self) -> None:
        """In a fork's child: nothing of the parent's, neither counts nor locks."""
        self.lock = threading.RLock()  # a thread that isn't here may have held the old one
        self.storage.close()
        self.storage = MemoryStorage()
        # What describes the parent, and present values, which are not 0 but unknown here.
        self.end_where(lambda s: s.metric.kind == "gauge" or "worker" in dict(s.attributes))
        self._ended = []
        self.move(self.storage, keep=False)

    def _series(self, instrument: Instrument, key: Attributes) -> Series:
        with self.lock:
            found = instrument.series.get(key)
            if found is not None:
                return found
            # The overflow series is one of the limit.
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
            # A full disk: what is counted from now on is this worker's alone.
            if not self._storage_failed:
                _log.warning("telemetry: the run folder can't grow: %s", error)
            self._storage_failed = True
            return MemoryStorage().allocate(metric, key, _size(metric), now)

    def _end(self, instrument: Instrument, key: Attributes) -> None:
        with self.lock:
            series = instrument.series.pop(key, None)
            if series is None:
                return
            instrument._forget(series)
            with contextlib.suppress(OSError):  # a full disk; the process's end clears it away
                self.storage.end(series.cells)
            self._ended.append(Point(series.metric, key, None, series.start_time_ns))

    def dropped(self, signal: str, reason: str, n: float = 1) -> None:
        """Count what telemetry itself dropped."""
        counter = self.instrument(catalog.TELEMETRY_DROPPED)
        counter.at({"signal": signal, "reason": reason}).cells[0] += n


def _size(metric: Metric) -> int:
    return len(metric.buckets) + 2 if metric.buckets else 1
