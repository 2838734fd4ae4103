"""The collector forwards spans to a trace back end if one is configured."""

from __future__ import annotations

import time

import httpx
import pytest

from telemetry.system import json_http
from tests.fixtures.otlp import Receiver
from tests.fixtures.stack import Stack, until
from tests.stack.sending import relayed as relayed_headers

pytestmark = pytest.mark.stack


def test_spans_are_forwarded_to_trace_back_end(new_stack: Stack, otlp: Receiver) -> None:
    new_stack.run("up", "--no-services", TELEMETRY_TRACES_ENDPOINT=otlp.url)
    claimed = [{"key": "handle", "value": {"stringValue": "bob"}}]
    span = {
        "attributes": claimed,
        "traceId": "0af7651916cd43dd8448eb211c80319c",
        "spanId": "b7ad6b7169203331",
        "name": "a span of a test",
        "startTimeUnixNano": str(time.time_ns()),
        "endTimeUnixNano": str(time.time_ns()),
    }
    spans = {"resource": {"attributes": claimed}, "scopeSpans": [{"spans": [span]}]}
    url = f"{new_stack.otlp_http}/v1/traces"
    for count, headers in ((1, {}), (2, relayed_headers(new_stack))):
        body = {"resourceSpans": [spans]}
        httpx.post(url, json=body, headers=headers).raise_for_status()
        until(lambda: len(otlp.traces) == count)  # noqa: B023
    direct, relayed = (str(request) for request in otlp.traces)
    assert direct.count("bob") == 2
    assert ("bob" in relayed, relayed.count('"ann"')) == (False, 2), "its handle, its service"


def test_spans_without_trace_back_end_are_refused(stack: Stack) -> None:
    answer = json_http.send(f"{stack.otlp_http}/v1/traces", {"resourceSpans": []})
    assert answer.status == 404
