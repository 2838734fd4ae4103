"""Several processes share a ledger, are killed and restarted."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from telemetry.services.proxy.ledger import accounts
from telemetry.services.proxy.ledger.migrations import open_ledger
from telemetry.services.proxy.ledger.reports import costs
from telemetry.services.proxy.ledger.stores import parse_url
from tests.days import within_a_day
from tests.proxy.conftest import ADMIN, CHECKOUT, HELLO, Process, wait_for

BODY: dict[str, Any] = {"model": "claude-sonnet-4-6", "max_tokens": 50, "messages": HELLO}


@pytest.fixture
def key(ledger_url: str) -> str:
    engine = open_ledger(parse_url(ledger_url))
    made = accounts.create_key(engine, "ann", accounts.limits({"daily_budget_usd": 1}))
    engine.dispose()
    return made.key


def call(process: Process, key: str, **steering: Any) -> httpx.Response:
    header = ",".join(f"{k}={v}" for k, v in steering.items())
    return httpx.post(
        f"{process.url}/v1/messages",
        json=BODY,
        timeout=30,
        headers={"x-api-key": key, "x-simulated": header},
    )


def user_row(ledger_url: str) -> Any:
    engine = open_ledger(parse_url(ledger_url))
    with engine.connect() as connection:
        row = connection.exec_driver_sql("SELECT * FROM users WHERE user_id = 'ann'").one()
    engine.dispose()
    return row


def report(ledger_url: str) -> dict[str, Any]:
    engine = open_ledger(parse_url(ledger_url))
    found = costs(engine)
    engine.dispose()
    return found


def test_a_killed_process_loses_nothing_settled_and_its_reservation_is_released(
    start: Callable[..., Process], ledger_url: str, key: str
) -> None:
    within_a_day(60)
    victim, survivor = start(), start()
    assert call(victim, key, input=100, output=10).status_code == 200
    wait_for(lambda: user_row(ledger_url).reserved == 0)
    spent = user_row(ledger_url).day_spent
    assert spent == 100 * 3 * 10**6 + 10 * 15 * 10**6
    caught: list[Exception] = []

    def hang() -> None:
        try:
            call(victim, key, hang=1)
        except httpx.TransportError as error:
            caught.append(error)

    thread = threading.Thread(target=hang)
    thread.start()
    wait_for(lambda: user_row(ledger_url).reserved > 0)
    victim.kill()
    thread.join(10)
    assert caught
    wait_for(lambda: user_row(ledger_url).reserved == 0, 20)
    row = user_row(ledger_url)
    assert (row.day_spent, row.reserved_tokens) == (spent, 0)
    shown = httpx.get(f"{survivor.url}/metrics", headers=ADMIN).text
    assert 'proxy_api_calls_total{model="claude-sonnet-4-6",status="expired",user_id="ann"} 1' in (
        shown.replace(".0\n", "\n")
    )
    assert survivor.stop() == 0
    assert "released the reservation of call_" in survivor.output
    assert "user ann" in survivor.output


def test_a_restart_forgets_nothing(
    start: Callable[..., Process], ledger_url: str, key: str
) -> None:
    first = start()
    for _ in range(3):
        assert call(first, key, input=10, output=10).status_code == 200
    wait_for(lambda: user_row(ledger_url).reserved == 0)
    # Stopping settles what is still under way.
    results: list[httpx.Response] = []
    thread = threading.Thread(
        target=lambda: results.append(call(first, key, delay=1, input=10, output=10))
    )
    thread.start()
    wait_for(lambda: user_row(ledger_url).reserved > 0)
    assert first.stop() == 0
    thread.join(10)
    assert results[0].status_code == 200
    second = start()
    assert call(second, key, input=10, output=10).status_code == 200
    wait_for(lambda: user_row(ledger_url).reserved == 0)
    found = report(ledger_url)
    assert found["rows"][0]["calls"] == 5
    assert found["total_usd"] == "0.0009"
    shown = httpx.get(f"{second.url}/api/costs", headers=ADMIN).json()
    assert shown == found


def test_workers_share_one_ledger(start: Callable[..., Process], ledger_url: str, key: str) -> None:
    process = start("--workers", "2")
    for _ in range(20):
        # A connection each, so that both workers are asked.
        assert call(process, key, input=10, output=10).status_code == 200
    wait_for(lambda: user_row(ledger_url).reserved == 0)
    assert report(ledger_url)["total_usd"] == "0.0036"
    for _ in range(4):
        shown = httpx.get(f"{process.url}/metrics", headers=ADMIN).text
        lines = [line for line in shown.splitlines() if line.startswith("proxy_api_calls_total{")]
        assert len(lines) == 1
        assert float(lines[0].split()[-1]) == 20, "every worker shows the ledger's count, once"
        (timed,) = re.findall(
            r"^gen_ai_client_operation_duration_seconds_count.* (\S+)$", shown, re.M
        )
        assert float(timed) == 20, "and the sum of what both have timed"
    assert process.stop() == 0


def test_a_taken_port_is_named(start: Callable[..., Process], tmp_path: Path) -> None:
    process = start()
    again = subprocess.run(
        [sys.executable, "-m", "telemetry", "proxy", "--port", str(process.port)],
        env={**os.environ, "TELEMETRY_HOME": str(tmp_path), "PYTHONPATH": CHECKOUT},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert again.returncode == 69
    assert f"127.0.0.1:{process.port}" in again.stderr
    assert "  -> " in again.stderr
