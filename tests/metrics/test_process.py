"""The process's own metrics, compared with the kernel's numbers."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import time

import pytest

from telemetry import catalog
from telemetry.catalog import Metric
from telemetry.metrics import process
from telemetry.metrics.points import HistogramValue
from telemetry.metrics.registry import Registry
from tests.fixtures.stack import until


@pytest.fixture
def registry() -> Registry:
    made = Registry()
    process.watch(made)
    return made


def read(registry: Registry, metric: Metric) -> float:
    found = [p.value for p in registry.points() if p.metric is metric]
    return sum(v for v in found if isinstance(v, (int, float)))


def test_each_series_has_worker_label(registry: Registry) -> None:
    assert {dict(p.attributes)["worker"] for p in registry.points()} == {str(os.getpid())}


def test_cpu_time_matches_kernel(registry: Registry) -> None:
    before = read(registry, catalog.PROCESS_CPU_TIME)
    spent = time.process_time() + 0.05
    while time.process_time() < spent:
        pass
    after = read(registry, catalog.PROCESS_CPU_TIME)
    assert before + 0.04 < after <= time.process_time() + 0.01


def test_memory_open_files_and_threads_follow_their_changes(registry: Registry) -> None:
    gc.collect()  # now, so that garbage of earlier tests is not freed between the readings
    memory = read(registry, catalog.PROCESS_MEMORY_USAGE)
    files = read(registry, catalog.PROCESS_UNIX_FILE_DESCRIPTOR_COUNT)
    threads = read(registry, catalog.PROCESS_THREAD_COUNT)
    ballast = bytearray(os.urandom(1 << 20) * 64)
    end = threading.Event()
    thread = threading.Thread(target=end.wait)
    thread.start()
    with open(os.devnull) as one, open(os.devnull) as two:
        assert read(registry, catalog.PROCESS_UNIX_FILE_DESCRIPTOR_COUNT) == files + 2
        assert not one.closed
        assert not two.closed
    assert read(registry, catalog.PROCESS_THREAD_COUNT) == threads + 1
    assert read(registry, catalog.PROCESS_MEMORY_USAGE) > memory + len(ballast) / 2
    end.set()
    thread.join()


def test_uptime_counts_from_process_start_not_import(registry: Registry) -> None:
    first = read(registry, catalog.PROCESS_UPTIME)
    assert first > time.monotonic() - process._IMPORTED
    assert read(registry, catalog.PROCESS_UPTIME) >= first


def test_garbage_collections_are_counted_by_generation(registry: Registry) -> None:
    import gc

    before = read(registry, catalog.CPYTHON_GC_COLLECTIONS)
    gc.collect()
    assert read(registry, catalog.CPYTHON_GC_COLLECTIONS) > before


async def test_blocked_loop_records_lag(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "LAG_PERIOD_S", 0.01)
    registry = Registry()
    lag = process.LoopLag(registry)
    lag.follow()
    lag.follow()  # no second timer for the same loop

    def seen() -> HistogramValue:
        (value,) = (p.value for p in registry.points())
        assert isinstance(value, HistogramValue)
        return value

    while not sum(seen().buckets):  # noqa: ASYNC110 - no event for it
        await asyncio.sleep(0.01)
    time.sleep(0.1)  # noqa: ASYNC251 - this is the lag
    while seen().sum < 0.05:  # noqa: ASYNC110
        await asyncio.sleep(0.01)


def test_closed_loop_leaves_no_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "LAG_PERIOD_S", 0.001)
    registry = Registry()
    lag = process.LoopLag(registry)

    async def follow() -> None:
        lag.follow()
        await asyncio.sleep(0.01)

    for _ in range(2):
        asyncio.run(follow())
    until(lambda: sum(getattr(registry.points()[0].value, "buckets", [])) > 1, what="two loops")
