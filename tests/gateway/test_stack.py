"""The gateway within the running stack: its log in Loki, its metrics in Prometheus, answers from
what both measured, alerts from a real Alertmanager."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, expect
from sqlalchemy import select

from telemetry.services.proxy.ledger import schema
from telemetry.services.proxy.ledger.migrations import open_ledger
from telemetry.services.proxy.ledger.stores import parse_url
from telemetry.settings import credentials
from telemetry.system import json_http
from tests.fixtures.stack import Stack, until
from tests.gateway.conftest import MODEL, Event, events, text_of
from tests.gateway.test_metrics import BUCKETS, TABLE

pytestmark = pytest.mark.stack

# What the platform would export and a container would say.
CONTAINER = """
import logging, sys, time
import telemetry
from telemetry import catalog, metrics
pipeline = telemetry.start(service_name="platform")
who = {"handle": sys.argv[1]}
metrics.gauge(catalog.PLATFORM_CONTAINER_UP).set(1, who)
metrics.gauge(catalog.PLATFORM_CONTAINER_CPU).set(37.25, who)
metrics.gauge(catalog.PLATFORM_CONTAINER_MEMORY).set(123456789, who)
metrics.gauge(catalog.PLATFORM_CONTAINER_MEMORY_LIMIT).set(268435456, who)
metrics.counter(catalog.PLATFORM_CONTAINER_RESTARTS).set_total(2, who)
logging.getLogger("shop").warning("disk is 91 %% full, order %s waits", 4711, extra=who)
assert telemetry.flush()
telemetry.shutdown()
"""


@dataclass
class Services:
    """A proxy and a gateway running in the stack.

    Args:
        stack: where.
        tokens: the stack's secrets.
    """

    stack: Stack
    tokens: dict[str, str]

    @property
    def url(self) -> str:
        return self.stack.url("gateway")

    def ask(self, message: str) -> list[Event]:
        headers = {"authorization": f"Bearer {self.tokens['TELEMETRY_GATEWAY_TOKEN']}"}
        with httpx.stream(
            "POST", f"{self.url}/api/chat", json={"message": message}, headers=headers, timeout=60
        ) as response:
            assert response.status_code == 200, response.read()
            return list(events(response))

    def lines(self) -> list[dict[str, Any]]:
        files = sorted((self.stack.home / "logs").glob("*.jsonl"))
        return [json.loads(line) for path in files for line in path.read_text().splitlines()]

    def calls(self) -> list[Any]:
        """Return rows of the proxy's ledger."""
        engine = open_ledger(parse_url(f"sqlite:///{self.stack.home}/ledger.db"))
        try:
            with engine.connect() as connection:
                return list(connection.execute(select(schema.calls)))
        finally:
            engine.dispose()

    def enter(self, page: Page) -> None:
        """Log in."""
        page.goto(self.url)
        page.get_by_label("Token").fill(self.tokens["TELEMETRY_GATEWAY_TOKEN"])
        page.get_by_role("button", name="Log in").click()
        expect(page.locator("#state")).to_have_text("connected")


@contextmanager
def process(stack: Stack, name: str, **environ: str) -> Iterator[None]:
    """Start a service as `telemetry up` does."""
    running = subprocess.Popen(
        [sys.executable, "-m", "telemetry", name],
        env=stack.env(OTEL_SERVICE_NAME=name, **environ),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )

    def healthy() -> bool:
        if running.poll() is not None:
            raise AssertionError(f"{name} ended: {running.communicate()[0]}")
        try:
            return httpx.get(f"{stack.url(name)}/health").status_code == 200
        except httpx.TransportError:
            return False

    try:
        until(healthy, 60)
        yield
    finally:
        running.terminate()
        output = running.communicate(timeout=60)[0]
        assert running.returncode == 0, output
        assert "Traceback" not in output, output


@pytest.fixture(scope="module")
def services(stack: Stack, simulated_upstream: str) -> Iterator[Services]:
    ledger = f"sqlite:///{stack.home}/ledger.db"
    with ExitStack() as running:
        running.enter_context(
            process(
                stack,
                "proxy",
                TELEMETRY_ANTHROPIC_URL=simulated_upstream,
                TELEMETRY_LEDGER_URL=ledger,
            )
        )
        running.enter_context(process(stack, "gateway", TELEMETRY_MODEL=MODEL))
        yield Services(stack, credentials.ensure(stack.home, {}))


@pytest.mark.browser
def test_typed_message_is_in_the_log_in_loki_and_in_the_ledger(
    services: Services, page: Page
) -> None:
    services.enter(page)
    message = f"Hello, it is {time.time_ns()}"
    page.get_by_label("Message").fill(message)
    page.get_by_label("Message").press("Enter")
    expect(page.locator(".text")).to_have_text(f"Simulated answer to: {message}")
    expect(page.locator(".figures")).to_be_visible()
    (line,) = [line for line in services.lines() if line["prompt"] == message]
    assert line["source"] == "web"
    trace_id = line["traceId"]
    (call,) = [call for call in services.calls() if call.trace_id == trace_id]
    assert (line["tokensIn"], line["tokensOut"]) == (call.input, call.output)
    # Expected within 2 s; a busy machine gets more time, so that a failure means a fault.
    query = f'{{service_name="gateway"}} | log_source="interactions" |= "{trace_id}"'
    (entry,) = services.stack.wait_logs(query)
    assert json.loads(entry["line"]) == line
    assert entry["labels"]["level"] == "info"
    assert entry["labels"]["trace_id"] == trace_id
    assert abs(entry["time_ns"] / 1e9 - datetime.fromisoformat(line["timestamp"]).timestamp()) < 1
    query = f'{{service_name="gateway"}} | log_source="activity" |= "{trace_id}"'
    assert len(services.stack.wait_logs(query)) == 1


def test_question_about_a_container_is_answered_from_its_metrics(services: Services) -> None:
    stack = services.stack
    command = [sys.executable, "-c", CONTAINER, "demo-1"]
    subprocess.run(command, env=stack.service_env(), check=True, timeout=60)
    stack.wait_query('platform_container_restarts_total{handle="demo-1"}')
    stack.wait_logs('{handle="demo-1"}')
    received = services.ask("How is container demo-1 doing?")
    text = text_of(received)
    results = {
        name: json.loads(result)
        for name, _, result in (
            line.removeprefix("- ").partition(": ")
            for line in text.splitlines()
            if line.startswith("- ")
        )
    }
    assert results["container_status"] == {
        "handle": "demo-1",
        "up": 1,
        "cpu_percent": 37.25,
        "memory_bytes": 123456789,
        "memory_limit_bytes": 268435456,
        "restarts": 2,
    }
    (series,) = results["query_metrics"]
    assert series["labels"]["handle"] == "demo-1"
    assert series["value"] == stack.value('platform_container_memory_bytes{handle="demo-1"}')
    (found,) = results["search_logs"]
    assert found["line"] == "disk is 91 % full, order 4711 waits"
    assert found["level"] == "warn"
    assert results["costs"]["total_usd"] == "0", "demo-1 has spent nothing"
    assert received[-1]["toolsUsed"] == list(results)


def test_every_metric_is_in_prometheus_with_its_labels_and_buckets(
    services: Services,
) -> None:
    services.ask("Hello")
    for name, (kind, labels) in TABLE.items():
        if kind != "histogram":
            found = services.stack.wait_query(f'{name}{{job="gateway"}}')
            assert labels <= set.intersection(*(set(row["metric"]) for row in found)), name
            continue
        found = services.stack.wait_query(f'{name}_bucket{{job="gateway"}}')
        assert labels <= set.intersection(*(set(row["metric"]) for row in found)), name
        bounds = {float(row["metric"]["le"]) for row in found}
        assert bounds == {*BUCKETS[name], float("inf")}, name


@pytest.mark.browser
def test_alert_of_a_real_alertmanager_is_shown_and_resolved(services: Services, page: Page) -> None:
    services.enter(page)
    alert: dict[str, Any] = {
        "labels": {"alertname": "ContainerDown", "handle": "demo-9", "severity": "critical"},
        "annotations": {
            "summary": "Container demo-9 is down",
            "runbook_url": f"{services.url}/runbooks#containerdown",
        },
        "generatorURL": services.stack.prometheus_url,
    }
    url, tls = f"{services.stack.url('alertmanager')}/api/v2/alerts", services.stack.tls
    json_http.post_json(url, [alert], tls=tls)
    notice = page.locator(".alert", has_text="Container demo-9 is down")
    expect(notice.locator(".severity")).to_have_text("critical")
    expect(notice.get_by_role("link", name="Runbook")).to_be_visible()
    ended = datetime.now(UTC) - timedelta(seconds=1)
    json_http.post_json(url, [alert | {"endsAt": ended.isoformat()}], tls=tls)
    expect(notice.locator(".severity")).to_have_text("resolved", timeout=60_000)
