"""What lines and series are stored under: few labels, and the sender that it really was."""

from __future__ import annotations

import time

import httpx
import pytest

from telemetry.catalog import METRICS
from telemetry.naming import prometheus_name
from telemetry.system import json_http
from tests.fixtures.stack import Stack, until
from tests.stack.sending import RELAYED, lines, send_log

pytestmark = pytest.mark.stack


def test_loki_gets_few_labels_and_the_rest_as_metadata(stack: Stack) -> None:
    send_log(stack, "labelled", "a line", order_id="17")
    (entry,) = lines(stack, '{service_name="labelled"}', 1)
    series = json_http.get_json(
        f"{stack.loki_url}/loki/api/v1/series?match[]=%7Bservice_name%3D%22labelled%22%7D"
    )
    assert series["data"] == [{"service_name": "labelled", "level": "warn"}]
    # Still there to look at and to filter by, without a stream each.
    assert entry["labels"]["service_instance_id"] == "instance-1"
    assert entry["labels"]["order_id"] == "17"
    assert entry["labels"]["process_pid"] == "77"


def test_every_stream_has_no_other_labels(stack: Stack) -> None:
    send_log(stack, "any", "a line")
    lines(stack, '{service_name="any"}', 1)
    labels = json_http.get_json(f"{stack.loki_url}/loki/api/v1/labels")["data"]
    assert set(labels) <= {"service_name", "handle", "level", "deployment_environment"}


# --- what the platform's relay passes on --------------------------------------------------------


def send_as(stack: Stack, service: str, headers: dict[str, str]) -> None:
    """A line and a gauge that claim to be bob's, in their resource and in themselves."""
    claimed = [{"key": "handle", "value": {"stringValue": "bob"}}]
    name = [{"key": "service.name", "value": {"stringValue": service}}] if service else []
    record = {"timeUnixNano": str(time.time_ns()), "attributes": claimed}
    log = {
        "resource": {"attributes": [*name, *claimed]},
        "scopeLogs": [{"logRecords": [{**record, "body": {"stringValue": f"as {service}"}}]}],
    }
    job = [{"key": "job", "value": {"stringValue": "proxy"}}] if not service else []
    point = {**record, "asInt": "1", "attributes": [*claimed, *job]}
    gauge = {"name": "claimed", "gauge": {"dataPoints": [point]}}
    metric = {"resource": log["resource"], "scopeMetrics": [{"metrics": [gauge]}]}
    for signal, body in (
        ("logs", {"resourceLogs": [log]}),
        ("metrics", {"resourceMetrics": [metric]}),
    ):
        answer = httpx.post(f"{stack.otlp_http}/v1/{signal}", json=body, headers=headers)
        assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    ("claimed", "stored"),
    [
        ("shop", "shop"),
        ("gateway", "gateway"),
        ("proxy", "ann/proxy"),
        ("platform", "ann/platform"),
        ("host", "ann/host"),
        ("", "ann"),
    ],
)
def test_what_a_container_sends_is_its_own_whatever_it_claims(
    stack: Stack, claimed: str, stored: str
) -> None:
    send_as(stack, claimed, RELAYED)
    (entry,) = lines(stack, f'{{handle="ann"}} |= "as {claimed}" | service_name="{stored}"', 1)
    assert entry["labels"]["handle"] == "ann"
    stack.wait_query(f'claimed{{job="{stored}", handle="ann"}}')
    names = f"{claimed or 'proxy'}|{stored}"
    assert not stack.query(f'claimed{{handle="bob", job=~"{names}"}}')
    assert not stack.logs(f'{{handle="bob", service_name=~"{names}"}} |= "as {claimed}"')


def test_who_sends_without_the_relay_is_believed(stack: Stack) -> None:
    """What the proxy meters for bob is bob's."""
    send_as(stack, "believed", {})
    lines(stack, '{service_name="believed", handle="bob"}', 1)
    stack.wait_query('claimed{job="believed", handle="bob"}')


# Name and unit; counters.
RESERVED = [
    *((m.name, "") for m in METRICS.values() if m.name.startswith(("proxy.", "platform."))),
    ("proxy_user_cost_today_usd", ""),
    ("..proxy..user__cost..today", "usd"),
    ("proxy\u00e9user_cost_today_usd", ""),
    ("proxy", "user_cost_today_usd"),
    ("total.proxy.api.cost", "usd"),
    ("total", "proxy_api_cost_usd"),
    ("_", "proxy_api_cost_usd"),
    ("up", ""),
    ("_up", ""),
    ("up.", ""),
    ("_", "up"),
    ("ALERTS", ""),
    ("ALERTS_FOR_STATE", ""),
    ("system.filesystem.usage", "By"),
    ("system", "filesystem_usage_bytes"),
    ("otelcol_exporter_queue_size", ""),
    ("prometheus_tsdb_too_old_samples_total", ""),
    ("loki.discarded.samples", ""),
    ("scrape_duration_seconds", ""),
]
ALLOWED = [
    ("http.server.active_requests", ""),
    ("gateway.dispatch.queue.depth", ""),
    ("gen_ai.client.token.usage", ""),
    ("telemetry.dropped", ""),
    ("system.cpu.utilization", ""),
    ("uptime", ""),
    ("upload.size", "By"),
    ("proxyless", ""),
    ("Proxy.calls", ""),
    ("scrape.pages", ""),
    ("shop.platform.orders", ""),
    ("total.orders", ""),
]


def send_counters(
    stack: Stack, service: str, metrics: list[tuple[str, str]], headers: dict[str, str]
) -> None:
    """As gauges, too, of another service: Prometheus spells their names otherwise."""
    point = {"timeUnixNano": str(time.time_ns()), "asInt": "999"}
    cumulative = {"isMonotonic": True, "aggregationTemporality": 2, "dataPoints": [point]}
    for kind, data in (("gauge", {"dataPoints": [point]}), ("sum", cumulative)):
        name = {"key": "service.name", "value": {"stringValue": f"{service}-{kind}"}}
        sent = [{"name": name, "unit": unit, kind: data} for name, unit in metrics]
        scoped = {"resource": {"attributes": [name]}, "scopeMetrics": [{"metrics": sent}]}
        body = {"resourceMetrics": [scoped]}
        answer = httpx.post(f"{stack.otlp_http}/v1/metrics", json=body, headers=headers)
        assert answer.status_code == 200, answer.text


def names_of(stack: Stack, service: str) -> set[str]:
    found = stack.query(f'{{job=~"{service}-(gauge|sum)"}}')
    return {series["metric"]["__name__"] for series in found}


def filtered(stack: Stack) -> float:
    """What the collector counts as dropped."""
    url = f"http://127.0.0.1:{stack.ports['collector_metrics']}/metrics"
    counted = [
        float(line.rpartition(" ")[2])
        for line in httpx.get(url).text.splitlines()
        if line.startswith("otelcol_processor_filter_datapoints_filtered")
    ]
    return sum(counted)


def test_a_container_does_not_speak_for_the_machine(stack: Stack) -> None:
    """What rules and bills are made of comes from the machine's own services alone, however a
    container spells it."""
    send_counters(stack, "own", [("proxy.upstream.errors", "")], {})
    before = filtered(stack)
    send_counters(stack, "claiming", RESERVED, RELAYED)
    send_counters(stack, "claiming", ALLOWED, RELAYED)
    expected = {
        prometheus_name(name, kind, unit) for name, unit in ALLOWED for kind in ("gauge", "counter")
    }
    until(lambda: expected <= names_of(stack, "claiming"))
    assert names_of(stack, "claiming") == expected | {"target_info"}
    assert filtered(stack) - before == 2 * len(RESERVED)
    until(lambda: "proxy_upstream_errors_total" in names_of(stack, "own"))
