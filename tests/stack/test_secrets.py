"""The collector masks secrets from any sender and leaves ordinary text unchanged."""

from __future__ import annotations

import json
import time

import pytest

from telemetry.system import json_http
from tests.fixtures.stack import Stack
from tests.secrets_corpus import ORDINARY, SECRETS
from tests.stack.sending import lines, send_log

pytestmark = pytest.mark.stack


@pytest.mark.parametrize(("name", "text", "secret"), SECRETS, ids=[name for name, *_ in SECRETS])
def test_secret_is_masked(stack: Stack, name: str, text: str, secret: str) -> None:
    """The secret is masked both in the line and in an attribute."""
    service = f"secret-{name}"
    send_log(stack, service, text, note=text)
    (entry,) = lines(stack, f'{{service_name="{service}"}}', 1)
    assert secret not in json.dumps(entry)
    assert text.split()[0].strip('{":') in entry["line"], "the rest of the line stays"


def test_ordinary_text_is_unchanged(stack: Stack) -> None:
    for text in ORDINARY:
        send_log(stack, "ordinary", text, note=text)
    found = lines(stack, '{service_name="ordinary"}', len(ORDINARY))
    assert [entry["line"] for entry in found] == ORDINARY
    assert [entry["labels"]["note"] for entry in found] == ORDINARY


def test_attribute_with_name_of_secret_is_masked(stack: Stack) -> None:
    send_log(stack, "masked", "a line", db_password="hunter22", tokensIn="12")
    (entry,) = lines(stack, '{service_name="masked"}', 1)
    assert "hunter22" not in json.dumps(entry)
    assert entry["labels"]["tokensIn"] == "12", "a number of tokens is not a secret"


def test_secrets_of_resource_and_structured_body_are_masked(stack: Stack) -> None:
    def attributes(**values: str) -> list[dict[str, object]]:
        return [
            {"key": key.replace("__", "."), "value": {"stringValue": value}}
            for key, value in values.items()
        ]

    resource = {
        "attributes": attributes(
            service__name="structured",
            db__password="hunter22",
            process__command_line="mysql --password hunter22 db",
            url="postgres://ann:hunter22@db/x",
        )
    }
    record = {
        "timeUnixNano": str(time.time_ns()),
        "body": {"kvlistValue": {"values": attributes(note="pwd=hunter22", password="hunter22")}},
    }
    logs = {"resource": resource, "scopeLogs": [{"logRecords": [record]}]}
    point = {"timeUnixNano": str(time.time_ns()), "asInt": "1"}
    gauge = {"name": "structured", "gauge": {"dataPoints": [point]}}
    metrics = {"resource": resource, "scopeMetrics": [{"metrics": [gauge]}]}
    json_http.post_json(f"{stack.otlp_http}/v1/logs", {"resourceLogs": [logs]})
    json_http.post_json(f"{stack.otlp_http}/v1/metrics", {"resourceMetrics": [metrics]})
    (entry,) = lines(stack, '{service_name="structured"}', 1)
    (info,) = stack.wait_query('target_info{job="structured"}')
    assert "hunter22" not in json.dumps([entry, info])
    for labels in (entry["labels"], info["metric"]):
        assert labels["process_command_line"] == "mysql --password [redacted] db"
        assert labels["url"] == "postgres://ann:[redacted]@db/x"
