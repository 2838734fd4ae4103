"""What lines and series are stored under: few labels, and the sender that it really was."""

from __future__ import annotations

import time

import httpx
import pytest

from telemetry.stack import ready
from tests.fixtures.stack import Stack
from tests.stack.sending import RELAYED, lines, send_log

pytestmark = pytest.mark.stack


def test_loki_gets_few_labels_and_the_rest_as_metadata(stack: Stack) -> None:
    send_log(stack, "labelled", "a line", order_id="17")
    (entry,) = lines(stack, '{service_name="labelled"}', 1)
    series = ready.get_json(
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
    labels = ready.get_json(f"{stack.loki_url}/loki/api/v1/labels")["data"]
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
