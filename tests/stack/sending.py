"""Send log lines to a stack and read them from Loki."""

from __future__ import annotations

import time
from typing import Any

from telemetry.system import json_http
from tests.fixtures.stack import Stack


def relayed(stack: Stack) -> dict[str, str]:
    """Return the headers that the platform's relay adds to the data of ann's container."""
    return {**stack.signed, "x-telemetry-handle": "ann"}


def lines(stack: Stack, logql: str, count: int) -> list[dict[str, Any]]:
    """Wait for exactly ``count`` entries and return them."""
    found = stack.wait_logs(logql, lambda entries: len(entries) >= count)
    assert len(found) == count, found
    return found


def send_log(stack: Stack, service: str, body: str, **attributes: str) -> None:
    record = {
        "timeUnixNano": str(time.time_ns()),
        "severityNumber": 13,
        "body": {"stringValue": body},
        "attributes": [{"key": k, "value": {"stringValue": v}} for k, v in attributes.items()],
    }
    resource = [
        {"key": key, "value": {"stringValue": value}}
        for key, value in {
            "service.name": service,
            "service.instance.id": "instance-1",
            "process.pid": "77",
            "host.name": "machine",
        }.items()
    ]
    sent = {"resource": {"attributes": resource}, "scopeLogs": [{"logRecords": [record]}]}
    json_http.post_json(f"{stack.otlp_http}/v1/logs", {"resourceLogs": [sent]})
