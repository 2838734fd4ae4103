"""A few minutes of an unlucky day: users, models, dispatches, containers, failures."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from urllib.parse import unquote, urlsplit

import httpx
from prometheus_client.parser import text_string_to_metric_families
from websockets.sync.client import connect

from telemetry.system.tls import client_context
from tests.days import within_a_day
from tests.fixtures.stack import until
from tests.fixtures.whole import MODEL, Whole
from tests.platform.test_series import gauge
from tests.ports import free_port

LIVES, KILLED, STARTS = "day-lives", "day-killed", "day-starts"
HUNGRY, UNWELL = "day-oom", "day-ill"
ANN, BOB, CAROL = "day-ann", "day-bob", "day-carol"
UNPRICED = "llama-of-the-day"
LINES = ["hello 1", "hello 2", "hello 3", "ERROR of the day", "the calls are made"]
_MIB = 1 << 20
# A script for the only program of the image, a shell: three model calls with the container's own
# key, through the platform's relay.
_CALLS = """
for i in 1 2 3; do echo hello $i; done; echo ERROR of the day
for i in 1 2 3; do
  wget -q -O /dev/null --header "x-api-key: $ANTHROPIC_API_KEY" \
    --header "anthropic-version: 2023-06-01" --header "x-simulated: input=1000,output=100" \
    --post-data "$BODY" \
    "$ANTHROPIC_BASE_URL/v1/messages" || echo no answer
done
echo the calls are made; exec sleep 3600
"""
_BODY = (
    f'{{"model": "{MODEL}", "max_tokens": 100, "messages": [{{"role": "user", "content": "Hi"}}]}}'
)
# Exits twice, then runs.
_TWICE = 'n=$(cat /n); echo 1$n > /n; [ "$n" = 11 ] && exec sleep 3600; sleep 1; exit 1'
# A shell variable that doubles until memory runs out.
_GREEDY = "sleep 1; x=0123456789; while true; do x=$x$x; done"


@dataclass
class Day:
    """The traffic of a day.

    Args:
        whole: the stack that received it.
        costs: USD by user, from the ledger.
        calls: settled calls by user, from the ledger.
        dispatches: the gateway's dispatches, by status.
        provisioned: number of containers provisioned, and of failures.
        over: when all data was in the stores, Unix seconds.
    """

    whole: Whole
    costs: dict[str, Decimal] = field(default_factory=dict)
    calls: dict[str, int] = field(default_factory=dict)
    dispatches: dict[str, int] = field(default_factory=dict)
    provisioned: tuple[int, int] = (0, 0)
    over: float = 0.0


@contextmanager
def a_day(whole: Whole) -> Iterator[Day]:
    """Produce the traffic and wait until all data is in the stores; clean up at the end."""
    within_a_day(180)
    day = Day(whole)
    with ExitStack() as open_still:
        _model_calls(day)
        _containers(day)
        open_still.enter_context(_shell(whole))
        open_still.enter_context(_gateway_inside(whole))
        _dispatches(day)
        _refused_by_loki(whole)
        _refused_by_the_relay(whole)
        _wait(day)
        yield day
    for handle in (LIVES, KILLED, STARTS, HUNGRY, UNWELL):
        whole.ask("platform", "DELETE", f"/api/containers/{handle}")


def _containers(day: Day) -> None:
    whole = day.whole
    # A start is annotated only if the platform reported before it.
    whole.wait_query("count(platform_containers_total offset 15s)")
    before = _provisioned(whole)
    well = {"command": ["true"], "interval_s": 1}
    ill = {"command": ["false"], "interval_s": 1, "retries": 1}
    limits = {"memory_limit_bytes": 64 * _MIB, "health_check": well}
    whole.provision(LIVES, "sh", "-c", _CALLS, env={"BODY": _BODY}, **limits)
    whole.provision(KILLED)
    whole.provision(STARTS, "sh", "-c", _TWICE, restart_policy="on-failure")
    whole.provision(HUNGRY, "sh", "-c", _GREEDY, memory_limit_bytes=16 * _MIB)
    whole.provision(UNWELL, health_check=ill)
    whole.provision("day-gone")
    assert whole.ask("platform", "DELETE", "/api/containers/day-gone").is_success
    none = {"handle": "day-none", "image": "no/such:image"}
    assert not whole.ask("platform", "POST", "/api/containers", none).is_success
    made, failed = before
    day.provisioned = (made + 6, failed + 1)
    whole.wait_query(f'platform_container_up{{handle="{KILLED}"}} == 1')
    whole.container(KILLED).kill()


def _provisioned(whole: Whole) -> tuple[int, int]:
    """Count containers provisioned, and failures, by earlier users of the stack."""
    page = whole.ask("platform", "GET", "/metrics").text
    name = "platform_provision_duration_seconds_count"
    counts = {
        sample.labels["outcome"]: int(sample.value)
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.name == name
    }
    return counts.pop("ok", 0), sum(counts.values())


def _model_calls(day: Day) -> None:
    whole = day.whole
    ann = whole.key(ANN, daily_budget_usd=1)
    bob = whole.key(BOB, daily_budget_usd=0.02)
    carol = whole.key(CAROL, daily_budget_usd=0.000001)
    sent = [
        *(whole.call(ann, simulated="input=1000,output=100") for _ in range(3)),
        whole.call(ann, simulated="input=2000,output=50,chunks=5,gap=0.01", stream=True),
        *(whole.call(bob, "gpt-4.1", "input=500,output=50") for _ in range(2)),
        whole.call(bob, UNPRICED),
    ]
    assert [answer.status_code for answer in sent] == [200] * 7
    assert whole.call(bob, "gpt-4.1", "status=500").status_code == 500
    assert [whole.call(carol).status_code for _ in range(2)] == [429] * 2


@contextmanager
def _shell(whole: Whole) -> Iterator[None]:
    """Connect a web shell and send a message, after another one disconnected."""
    secret = whole.token("TELEMETRY_GATEWAY_TOKEN")
    url = f"{whole.url('gateway').replace('http', 'ws')}/ws?session=day"
    headers = {"authorization": f"Bearer {secret}"}
    with connect(url, additional_headers=headers):
        pass
    with connect(url, additional_headers=headers) as shell:
        shell.send('{"type": "message", "id": "1", "text": "Good day"}')
        until(lambda: '"done"' in str(shell.recv(timeout=30)))
        yield


@contextmanager
def _gateway_inside(whole: Whole) -> Iterator[None]:
    """Run a gateway as in a container, whose telemetry comes through the platform's relay."""
    port = str(free_port())
    headers = whole.service_env()["OTEL_EXPORTER_OTLP_HEADERS"]
    environ = whole.env(
        OTEL_EXPORTER_OTLP_HEADERS=f"{headers},x-telemetry-handle={LIVES}",
        TELEMETRY_HOME=str(whole.home / "inside"),
        TELEMETRY_GATEWAY_PORT=port,
        TELEMETRY_GATEWAY_TOKEN=whole.token("TELEMETRY_GATEWAY_TOKEN"),
        TELEMETRY_PROXY_KEY=whole.key(LIVES),
        OTEL_RESOURCE_ATTRIBUTES=f"handle={LIVES}",
    )
    command = [sys.executable, "-m", "telemetry", "gateway"]
    with subprocess.Popen(command, env=environ) as process:
        url = f"http://127.0.0.1:{port}"
        until(lambda: _answers(url) or process.poll() is not None, 60)
        assert process.poll() is None, "the gateway has ended"
        whole.chat("Good day", url)
        try:
            yield
        finally:
            process.terminate()
            process.wait(60)


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health").is_success
    except httpx.TransportError:
        return False


def _dispatches(day: Day) -> None:
    whole = day.whole
    ended = [whole.chat(f"How is container {LIVES} doing?")["status"] for _ in range(3)]
    assert ended == ["ok"] * 3
    budget = "/api/users/gateway/budget"
    assert whole.ask("proxy", "PUT", budget, {"daily_budget_usd": 0.000001}).is_success
    assert whole.chat("And now?")["status"] == "error"
    assert whole.ask("proxy", "PUT", budget, {"daily_budget_usd": None}).is_success
    # An interaction log that can't be written is counted, and the answer is still sent.
    activity = whole.home / "logs" / "activity.log"
    kept = activity.rename(activity.with_suffix(".kept"))
    activity.mkdir()
    assert whole.chat("Is this logged?")["status"] == "ok"
    activity.rmdir()
    kept.rename(activity)
    assert whole.ask("gateway", "GET", "/nowhere", token="GATEWAY").status_code == 404
    day.dispatches = {"ok": 3 + 1 + 1, "error": 1}  # one of them by the web shell


def _refused_by_loki(whole: Whole) -> None:
    old = str(time.time_ns() - 30 * 86400 * 10**9)
    line = {"stream": {"service_name": "day"}, "values": [[old, "older than Loki takes"]]}
    url, context = f"{whole.loki_url}/loki/api/v1/push", client_context(whole.tls)
    answer = httpx.post(url, json={"streams": [line]}, verify=context)
    assert answer.status_code == 400


def _refused_by_the_relay(whole: Whole) -> None:
    """Exceed each kind of limit of a container, with the environment of one."""
    pairs = whole.container(LIVES).attrs["Config"]["Env"]
    environ = dict(pair.split("=", 1) for pair in pairs)
    name, _, token = unquote(environ["OTEL_EXPORTER_OTLP_HEADERS"]).partition("=")
    relay = urlsplit(f"{environ['OTEL_EXPORTER_OTLP_ENDPOINT']}/v1")
    headers = {name: token, "content-type": "application/x-protobuf"}
    with httpx.Client(base_url=relay.geturl(), headers=headers, timeout=60) as client:
        assert client.post("logs", content=bytes(17 * _MIB)).status_code == 413
        many = gauge([str(number) for number in range(10_010)])
        assert client.post("metrics", content=many).status_code == 200
    with ExitStack() as opened:
        for _ in range(140):
            address = (relay.hostname, relay.port)
            opened.enter_context(socket.create_connection(address, timeout=20))
        whole.wait_query("platform_relay_connections_refused_total > 0", timeout_s=60)


def _wait(day: Day) -> None:
    """Wait until all data has arrived."""
    whole = day.whole
    whole.wait_logs(f'{{handle="{LIVES}"}}', lambda e: len(e) >= len(LINES))

    def settled() -> dict[str, Any] | None:
        report = whole.ask("proxy", "GET", "/api/costs?since=today&group=user").json()
        rows = {row["user_id"]: row for row in report["rows"]}
        # Settled a moment after the last byte: three calls of the container, one of its gateway.
        return rows if rows.get(LIVES, {}).get("calls") == 4 else None

    rows = until(settled, what=f"four calls of {LIVES}")
    day.costs = {user: Decimal(str(row["cost_usd"])) for user, row in rows.items()}
    day.calls = {user: row["calls"] for user, row in rows.items()}
    for query in (
        *(f'sum(proxy_api_calls_total{{user_id="{u}"}}) == {n}' for u, n in day.calls.items()),
        f'platform_container_up{{handle="{KILLED}"}} == 0',
        f'platform_container_up{{handle="{HUNGRY}"}} == 0',
        f'platform_container_oom_kills_total{{handle="{HUNGRY}"}} > 0',
        f'platform_container_restarts_total{{handle="{STARTS}"}} == 2',
        f'platform_container_healthy{{handle="{UNWELL}"}} == 0',
        f'platform_container_healthy{{handle="{LIVES}"}} == 1',
        f'platform_relay_refused_total{{handle="{LIVES}"}} == 1',
        f'platform_relay_dropped_total{{handle="{LIVES}"}} > 0',
        f'platform_container_network_transmit_bytes_total{{handle="{LIVES}"}} > 0',
        f'sum(gateway_kernel_dispatch_total{{handle=""}}) == {sum(day.dispatches.values())}',
        f'http_server_request_duration_seconds_count{{handle="{LIVES}"}}',
        'sum(gateway_alerts_firing{severity="critical"}) >= 3',
        "rate(system_cpu_time_seconds_total[120s])",
        "rate(loki_discarded_samples_total[120s])",
        "rate(otelcol_exporter_sent_log_records[120s])",
        "gateway_interaction_log_failures_total > 0",
    ):
        whole.wait_query(query, timeout_s=60)
    day.over = time.time()
