"""A process that reports given counts, logs two lines, and runs until its standard input closes.

It reads one line of JSON: a list of [metric's name, attributes, value]. A histogram's value is a
list.
"""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import telemetry
from telemetry import catalog, metrics
from tests.fixtures.stack import Stack

Counts = list[tuple[str, dict[str, str], Any]]


@contextmanager
def counting(stack: Stack, service: str, counts: Counts, handle: str = "") -> Iterator[None]:
    """Run a process of this name that has sent ``counts`` to ``stack``."""
    # It replaces the ledger, whose series are not limited.
    more = {"TELEMETRY_CARDINALITY_LIMIT": "10000"}
    if handle:
        more["OTEL_RESOURCE_ATTRIBUTES"] = f"handle={handle}"
    with subprocess.Popen(
        [sys.executable, "-m", "tests.dashboards.filler", service],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=stack.service_env(**more),
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(counts) + "\n")
        process.stdin.flush()
        assert process.stdout.readline() == "counted\n"
        yield
        process.stdin.close()
        process.wait(30)


async def _main(service: str) -> None:
    telemetry.start(service_name=service)
    logging.getLogger(service).warning("%s counts", service)
    logging.getLogger(service).error("%s has seen an error", service)
    for name, attributes, value in json.loads(sys.stdin.readline()):
        metric = catalog.METRICS[name]
        if metric.kind == "histogram":
            for one in value:
                metrics.histogram(metric).record(one, attributes)
        elif metric.kind == "counter":
            metrics.counter(metric).add(value, attributes)
        else:
            metrics.gauge(metric).set(value, attributes)
    await asyncio.sleep(1)  # the event loop's lag is measured every half second
    assert telemetry.flush(20)
    print("counted", flush=True)
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1]))
