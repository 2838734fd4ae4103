"""Run the shop app against a stack and read what has arrived."""

from __future__ import annotations

import re
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from tests.fixtures.stack import Stack, until
from tests.ports import free_port
from tests.run.serving import APP, TELEMETRY, Served, environment, served

UVICORN = "run shop:app --port {port}"
ITEMS = "/items/{id}"
# One request logs many more lines than a queue can hold.
FLOOD = """
async def flood(request):
    for i in range(20_000):
        log.info("flood %s %s", i, "x" * 200)
    return PlainTextResponse("done")

app.router.routes.append(Route("/flood", flood))
"""


def shop(
    stack: Stack, folder: Path, name: str, command: str = UVICORN, **more: str
) -> AbstractContextManager[Served]:
    """Run the shop with ``telemetry`` and ``command``, sending to the stack."""
    (folder / "shop.py").write_text(APP + FLOOD)
    port = free_port()
    env = environment(**stack.env(OTEL_SERVICE_NAME=name, PATH=environment()["PATH"], **more))
    return served([*TELEMETRY, *command.format(port=port).split()], folder, env, port)


def _count(job: str, route: str = ITEMS) -> str:
    return (
        "sum(last_over_time(http_server_request_duration_seconds_count"
        f'{{job="{job}",http_route="{route}"}}[1h]))'
    )


def wait_count(stack: Stack, job: str, wanted: int, timeout_s: float = 60) -> None:
    """Wait until Prometheus has counted ``wanted`` requests, and check that it has no more."""

    def has(result: list[dict[str, Any]]) -> bool:
        return bool(result) and float(result[0]["value"][1]) >= wanted

    result = stack.wait_query(_count(job), has, timeout_s)
    assert float(result[0]["value"][1]) == wanted, "more than were sent"


def sequence(stack: Stack, name: str) -> list[int]:
    """Return the numbers in the shop's lines in Loki."""
    lines = [entry["line"] for entry in stack.logs(f'{{service_name="{name}"}} |= "sequence"')]
    return [int(m[1]) for line in lines if (m := re.fullmatch(r"sequence (\d+)", line))]


def wait_sequence(stack: Stack, name: str, wanted: int, timeout_s: float = 60) -> None:
    """Wait for ``wanted`` lines in Loki, and check that none is missing or there twice."""
    until(lambda: len(sequence(stack, name)) >= wanted, timeout_s, f"{wanted} lines of {name}")
    assert sorted(sequence(stack, name)) == list(range(wanted)), "missing or twice"
