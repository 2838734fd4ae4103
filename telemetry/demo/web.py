"""Run a real third-party app, unchanged, under traffic: Datasette with a small shop's data."""

from __future__ import annotations

import random
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from telemetry.errors import TelemetryError
from telemetry.settings.stack import StackSettings
from telemetry.stack import readiness
from telemetry.system import json_http, own_package

SERVICE = "datasette"
PAGES = (
    "/",
    "/shop",
    "/shop/orders",
    "/shop/items",
    "/shop/orders?_sort_desc=amount",
    "/shop/orders.json?_shape=array",
    "/shop/items/7",
    "/shop?sql=select+sum(amount)+from+orders",
    "/shop/nothing-of-the-kind",
)
STARTED_S = 30.0


@contextmanager
def datasette(folder: Path, port: int, settings: StackSettings) -> Iterator[str]:
    """Run Datasette under `telemetry run`, and give its address.

    Raises:
        TelemetryError: Datasette is not installed or doesn't start.
    """
    program = shutil.which("datasette", path=str(Path(sys.executable).parent)) or shutil.which(
        "datasette"
    )
    if program is None:
        raise TelemetryError(
            "the demo's app, Datasette, is not installed",
            remedy='pip install "container-telemetry[demo]"',
            exit_code=69,
        )
    database = folder / "shop.db"
    _fill(database)
    base = f"http://127.0.0.1:{port}"
    output = folder / "datasette.log"
    command = own_package.command("telemetry", "run", "--")
    with open(output, "w") as file:
        process = subprocess.Popen(
            [*command, program, "serve", str(database), "--port", str(port)],
            env={**settings.child_env, "OTEL_SERVICE_NAME": SERVICE},
            stdout=file,
            stderr=file,
        )
    try:
        # Wait without a request: the demo compares the counted requests with those of `visit`.
        if not readiness.wait(lambda: _listens(port) or process.poll() is not None, STARTED_S) or (
            process.poll() is not None
        ):
            raise TelemetryError("Datasette did not start", remedy=f"see its output in {output}")
        yield base
    finally:
        process.terminate()
        process.wait(30)


def visit(base: str, seconds: float) -> Counter[int]:
    """Request random pages for some seconds, and count the answers by status."""
    random.seed(20)
    statuses: Counter[int] = Counter()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        page = random.choice(PAGES)
        statuses[json_http.send(base + page, timeout_s=10).status] += 1
        time.sleep(random.expovariate(25))
    return statuses


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _fill(database: Path) -> None:
    database.unlink(missing_ok=True)
    random.seed(19)
    connection = sqlite3.connect(database)
    with connection:
        connection.execute("create table items (id integer primary key, name text, price real)")
        connection.execute(
            "create table orders (id integer primary key, item integer references items(id), "
            "amount real, at text)"
        )
        connection.executemany(
            "insert into items values (?, ?, ?)",
            [(i, f"item {i}", round(random.uniform(1, 90), 2)) for i in range(1, 41)],
        )
        connection.executemany(
            "insert into orders values (?, ?, ?, ?)",
            [
                (
                    i,
                    random.randint(1, 40),
                    round(random.uniform(1, 300), 2),
                    f"2026-01-{i % 28 + 1}",
                )
                for i in range(1, 2001)
            ],
        )
    connection.close()
