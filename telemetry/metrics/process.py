"""The process's own metrics: CPU, memory, open files, threads, GC, event-loop lag.

They are read from /proc, or from the standard library if there is no /proc.
"""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import threading
import time
from pathlib import Path

from telemetry import catalog
from telemetry.metrics import BoundHistogram
from telemetry.metrics.registry import Registry

# Enough to catch a lag that people notice. Chosen by judgement, not measured.
LAG_PERIOD_S = 0.5
_PROC = Path("/proc/self")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_IMPORTED = time.monotonic()


def watch(registry: Registry) -> None:
    """Read the process's metrics before each collection."""
    registry.samplers.append(_Sampler(registry))


class _Sampler:
    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def __call__(self) -> None:
        worker = {"worker": str(os.getpid())}
        usage = resource.getrusage(resource.RUSAGE_SELF)
        self._set(catalog.PROCESS_CPU_TIME, usage.ru_utime, worker | {"cpu.mode": "user"})
        self._set(catalog.PROCESS_CPU_TIME, usage.ru_stime, worker | {"cpu.mode": "system"})
        self._set(catalog.PROCESS_MEMORY_USAGE, _resident_bytes(usage.ru_maxrss), worker)
        files = _open_files()
        if files is not None:
            self._set(catalog.PROCESS_UNIX_FILE_DESCRIPTOR_COUNT, files, worker)
        self._set(catalog.PROCESS_THREAD_COUNT, _threads(), worker)
        self._set(catalog.PROCESS_UPTIME, _uptime_s(), worker)
        for generation, stats in enumerate(gc.get_stats()):
            which = worker | {"cpython.gc.generation": str(generation)}
            self._set(catalog.CPYTHON_GC_COLLECTIONS, stats["collections"], which)
            self._set(catalog.CPYTHON_GC_COLLECTED_OBJECTS, stats["collected"], which)

    def _set(self, metric: catalog.Metric, value: float, attributes: dict[str, str]) -> None:
        self._registry.instrument(metric).at(attributes).cells[0] = value


def _resident_bytes(peak: int) -> float:
    try:
        return int((_PROC / "statm").read_text().split()[1]) * _PAGE
    except OSError:
        return peak * 1024.0  # without /proc: the peak, which the BSDs give in KiB


def _open_files() -> int | None:
    try:
        return len(os.listdir(_PROC / "fd")) - 1  # without the one that listdir opens
    except OSError:
        return None


def _threads() -> int:
    try:
        return len(os.listdir(_PROC / "task"))  # includes threads of C libraries
    except OSError:
        return threading.active_count()


def _uptime_s() -> float:
    try:
        # Field 22 is the start of the process in ticks since boot. The second field, the command
        # in parentheses, may contain spaces and parentheses.
        ticks = int((_PROC / "stat").read_text().rpartition(")")[2].split()[19])
        return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, AttributeError):
        return time.monotonic() - _IMPORTED


class LoopLag:
    """Measures the lag of the running event loop, twice a second.

    It is a timer that reschedules itself, not a task: it needs no cancelling, and it keeps no
    loop from closing.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lag: BoundHistogram | None = None

    def follow(self) -> None:
        """Measure the running loop from now on, and no longer the previous one."""
        loop = asyncio.get_running_loop()
        if loop is self._loop:
            return
        self._loop = loop
        series = self._registry.instrument(catalog.ASYNCIO_EVENT_LOOP_LAG).at(
            {"worker": str(os.getpid())}
        )
        self._lag = BoundHistogram(series)
        self._schedule(loop)

    def _schedule(self, loop: asyncio.AbstractEventLoop) -> None:
        due = loop.time() + LAG_PERIOD_S
        loop.call_at(due, self._measure, loop, due)

    def _measure(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        if loop is self._loop and self._lag is not None:
            self._lag.record(max(0.0, loop.time() - due))
            self._schedule(loop)
