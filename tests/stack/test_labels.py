"""Labels of stored lines and series: few, and with the real sender."""

from __future__ import annotations

import re
import time
from typing import Any

import httpx
import pytest

from telemetry.catalog import METRICS
from telemetry.naming import prometheus_name
from telemetry.settings.stack import OWN_SERVICES
from tests.fixtures.stack import Stack, until
from tests.stack.sending import lines, relayed, send_log

pytestmark = pytest.mark.stack


def test_loki_stores_few_labels_and_the_rest_as_metadata(stack: Stack) -> None:
    send_log(stack, "labelled", "a line", order_id="17")
    (entry,) = lines(stack, '{service_name="labelled"}', 1)
    series = stack.get(
        f"{stack.loki_url}/loki/api/v1/series?match[]=%7Bservice_name%3D%22labelled%22%7D"
    )
    assert series["data"] == [{"service_name": "labelled", "level": "warn"}]
    # They can still be read and filtered by, but don't create streams.
    assert entry["labels"]["service_instance_id"] == "instance-1"
    assert entry["labels"]["order_id"] == "17"
    assert entry["labels"]["process_pid"] == "77"


def test_streams_have_no_other_labels(stack: Stack) -> None:
    send_log(stack, "any", "a line")
    lines(stack, '{service_name="any"}', 1)
    labels = stack.get(f"{stack.loki_url}/loki/api/v1/labels")["data"]
    assert set(labels) <= {"service_name", "handle", "level", "deployment_environment"}


# --- what services, containers and apps may say --------------------------------------------------


def send_as(stack: Stack, service: str, headers: dict[str, str]) -> None:
    """Send a line and a gauge that claim bob's handle in their resource and attributes."""
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
    [("shop", "shop"), ("", "ann"), *((name, f"ann/{name}") for name in OWN_SERVICES)],
)
def test_data_of_container_gets_its_own_handle_and_no_reserved_service(
    stack: Stack, claimed: str, stored: str
) -> None:
    send_as(stack, claimed, relayed(stack))
    (entry,) = lines(stack, f'{{handle="ann"}} |= "as {claimed}" | service_name="{stored}"', 1)
    assert entry["labels"]["handle"] == "ann"
    stack.wait_query(f'claimed{{job="{stored}", handle="ann"}}')
    names = f"{claimed or 'proxy'}|{stored}"
    assert not stack.query(f'claimed{{handle="bob", job=~"{names}"}}')
    assert not stack.logs(f'{{handle="bob", service_name=~"{names}"}} |= "as {claimed}"')


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer"},
        {"authorization": "Bearer guessed"},
        {"authorization": "Basic guessed", "x-telemetry-handle": "ann"},
    ],
    ids=str,
)
@pytest.mark.parametrize(
    ("claimed", "stored"),
    [("mine", "mine"), ("", "unknown_service"), *((n, f"app/{n}") for n in OWN_SERVICES)],
)
def test_app_without_the_token_gets_no_reserved_service(
    stack: Stack, claimed: str, stored: str, headers: dict[str, str]
) -> None:
    send_as(stack, claimed, headers)
    stack.wait_logs(f'{{service_name="{stored}"}} |= "as {claimed}"')
    stack.wait_query(f'claimed{{job="{stored}", handle="bob"}}')
    assert not stack.query(f'claimed{{job="{claimed or "proxy"}"}} unless {{job="{stored}"}}')
    # Only the relay says whose container it was.
    assert not stack.query(f'claimed{{job="{stored}", handle="ann"}}')


@pytest.mark.parametrize("sender", ["container", "app"])
def test_second_attribute_of_the_same_name_is_not_believed(stack: Stack, sender: str) -> None:
    def twice(key: str, *values: str) -> list[dict[str, Any]]:
        return [{"key": key, "value": {"stringValue": value}} for value in values]

    headers = relayed(stack) if sender == "container" else {}
    names = twice("service.name", f"twice-{sender}", "proxy", "gateway")
    handles = twice("handle", "bob", "eve") if sender == "container" else []
    resource = {"attributes": [*names, *handles]}
    now = str(time.time_ns())
    record = {"timeUnixNano": now, "body": {"stringValue": f"twice {sender}"}}
    scoped = {"logRecords": [{**record, "attributes": handles}]}
    point = {"timeUnixNano": now, "asInt": "1", "attributes": handles}
    metric = {"name": f"twice_{sender}", "gauge": {"dataPoints": [point]}}
    for signal, body in (
        ("logs", {"resourceLogs": [{"resource": resource, "scopeLogs": [scoped]}]}),
        (
            "metrics",
            {"resourceMetrics": [{"resource": resource, "scopeMetrics": [{"metrics": [metric]}]}]},
        ),
    ):
        httpx.post(f"{stack.otlp_http}/v1/{signal}", json=body, headers=headers).raise_for_status()
    expected = {"handle": "ann"} if sender == "container" else {}
    (entry,) = lines(stack, f'{{service_name=~".+"}} |= "twice {sender}"', 1)
    shown = {key: entry["labels"].get(key) for key in ("service_name", "handle")}
    assert shown == {"service_name": f"twice-{sender}", "handle": expected.get("handle")}
    (series,) = stack.wait_query(f"twice_{sender}")
    labels = {key: series["metric"].get(key) for key in ("job", "handle")}
    assert labels == {"job": f"twice-{sender}", "handle": expected.get("handle")}


def test_service_with_the_token_is_believed(stack: Stack) -> None:
    """The proxy's own metrics about bob keep bob's handle."""
    send_as(stack, "agent", stack.signed)
    lines(stack, '{service_name="agent", handle="bob"}', 1)
    stack.wait_query('claimed{job="agent", handle="bob"}')


# Names and units of counters.
RESERVED = [
    *((m.name, "") for m in METRICS.values() if m.name.startswith(("proxy.", "platform."))),
    ("proxy_user_cost_today_usd", ""),
    ("..proxy..user__cost..today", "usd"),
    ("proxy\u00e9user_cost_today_usd", ""),
    ("proxy", "user_cost_today_usd"),
    ("total.proxy.api.cost", "usd"),
    ("total", "proxy_api_cost_usd"),
    ("_", "proxy_api_cost_usd"),
    ("ratio.proxy.budget", ""),
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
    """Send counters, and gauges of another service: Prometheus gives gauges other names."""
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
    # What Prometheus' own rules made of these series has the name of an alert.
    found = stack.query(f'{{job=~"{service}-(gauge|sum)", alertname=""}}')
    return {series["metric"]["__name__"] for series in found}


@pytest.mark.parametrize("sender", ["container", "app"])
def test_reserved_metrics_of_others_get_a_prefix(stack: Stack, sender: str) -> None:
    """Rules and bills use only metrics of the machine's own services.

    Nobody else can send them under any spelling of the name. Nothing is dropped.
    """
    headers = relayed(stack) if sender == "container" else {}
    # A gateway may run in a container.
    gateway = [("gateway.dispatch.queue.depth", "")]
    reserved, allowed = RESERVED, ALLOWED
    if sender == "container":
        allowed = ALLOWED + gateway
    else:
        reserved = RESERVED + gateway
    send_counters(stack, "own", [("proxy.upstream.errors", "")], stack.signed)
    send_counters(stack, sender, [*reserved, *allowed], headers)
    renamed = [(f"app_{name}", unit) for name, unit in reserved]
    expected = {
        # Prometheus leaves out an underscore at the end, unlike our names.
        re.sub("__+", "_", prometheus_name(name, kind, unit)).rstrip("_")
        for name, unit in [*renamed, *allowed]
        for kind in ("gauge", "counter")
    }
    until(lambda: expected <= names_of(stack, sender), what="all have arrived")
    assert names_of(stack, sender) - {"target_info"} == expected
    until(lambda: "proxy_upstream_errors_total" in names_of(stack, "own"))
