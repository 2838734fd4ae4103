"""Measure how long `/metrics` with 10,000 histogram series sets takes and blocks the event loop.

A series set is the buckets, sum and count of one histogram. The request goes through the app, as a
scrape does. At the same time a task on the event loop sleeps for a millisecond again and again, and
records the CPU time that the process spends beyond that before the task wakes up. It is CPU time,
because other processes may delay this one.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from typing import Any

SERIES = 10_000
TICK_S = 0.001


def measure(rounds: int) -> tuple[float, float]:
    """Measure a scrape: the median of its CPU time, and of the longest block of the event loop in
    each, both in ms."""
    os.environ |= {
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_LOGS_EXPORTER": "none",
        "TELEMETRY_CARDINALITY_LIMIT": str(2 * SERIES),
    }
    return asyncio.run(_measure(rounds))


async def _measure(rounds: int) -> tuple[float, float]:
    import telemetry
    from telemetry import catalog, metrics

    async def nothing(scope: Any, receive: Any, send: Any) -> None:
        pass

    app = telemetry.instrument(nothing)
    duration = metrics.histogram(catalog.HTTP_SERVER_REQUEST_DURATION)
    telemetry.start()
    for number in range(SERIES):
        duration.record(0.02, {"http.route": f"/{number}", "http.request.method": "GET"})
    spent, held = [], []
    for round_ in range(rounds + 1):
        watch = asyncio.create_task(_longest_hold())
        await asyncio.sleep(0.05)
        before = time.process_time()
        await _scrape(app)
        cpu = time.process_time() - before
        watch.cancel()
        try:
            await watch
        except asyncio.CancelledError:
            pass
        if round_:  # the first round creates the format strings
            spent.append(cpu * 1000)
            held.append(_longest * 1000)
    return statistics.median(spent), statistics.median(held)


_longest = 0.0


async def _longest_hold() -> None:
    global _longest
    _longest = 0.0
    while True:
        before = time.process_time()
        await asyncio.sleep(TICK_S)
        _longest = max(_longest, time.process_time() - before - TICK_S)


async def _scrape(app: Any) -> None:
    size = 0

    async def receive() -> Any:
        return {"type": "http.request"}

    async def send(message: Any) -> None:
        nonlocal size
        size += len(message.get("body", b""))

    scope = {"type": "http", "method": "GET", "path": "/metrics", "scheme": "http", "headers": []}
    await app(scope, receive, send)
    assert size > SERIES * 100, size
