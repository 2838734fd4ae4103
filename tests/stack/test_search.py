"""`telemetry search`."""

from __future__ import annotations

import logging
import time

import pytest
from opentelemetry import trace

from telemetry.logs.failed_requests import note_trace
from telemetry.stack.search import Search
from telemetry.system import json_http
from tests.fixtures.stack import Stack
from tests.logs.conftest import Attach, attach, log

TRACE = "5af7651916cd43dd8448eb211c80319c"
__all__ = ["attach", "log"]  # fixtures


@pytest.mark.parametrize(
    ("wanted", "logql"),
    [
        (Search(), '{service_name=~".+"}'),
        (Search("timed out"), r'{service_name=~".+"} |~ "(?i)timed\\ out"'),
        (Search('a "b" \\d'), r'{service_name=~".+"} |~ "(?i)a\\ \"b\"\\ \\\\d"'),
        (Search(service="gateway", level="error"), '{service_name="gateway", level="error"}'),
        (Search(handle='x"} or {a="'), r'{handle="x\"} or {a=\""}'),
        (Search("a" * 32), '{service_name=~".+"} | trace_id="' + "a" * 32 + '"'),
    ],
)
def test_search_is_translated_to_logql(wanted: Search, logql: str) -> None:
    assert wanted.logql == logql


@pytest.mark.stack
def test_matching_lines_are_printed(stack: Stack) -> None:
    for service, line in (
        ("finder", "Payment (no. 7) TIMED OUT"),
        ("finder", "\x1b]0;a title\x07\x1b[31mred\x1b[0m herring"),
        ("other", "all good"),
    ):
        record = {
            "timeUnixNano": str(time.time_ns()),
            "severityNumber": 17,
            "body": {"stringValue": line},
            "traceId": TRACE,
        }
        resource = {"attributes": [{"key": "service.name", "value": {"stringValue": service}}]}
        logs = {"resource": resource, "scopeLogs": [{"logRecords": [record]}]}
        json_http.post_json(f"{stack.otlp_http}/v1/logs", {"resourceLogs": [logs]})
    stack.wait_logs('{service_name=~"finder|other"}', lambda found: len(found) == 3)

    found = stack.run("search", "(no. 7) timed out")
    (line,) = found.stdout.splitlines()
    assert line.endswith("error finder Payment (no. 7) TIMED OUT")
    herring = stack.run("search", "--service", "finder", "herring").stdout
    assert herring.endswith("red herring\n")
    assert "\x1b" not in herring, "control sequences are removed"
    assert r"\x1b]0;a title\x07red herring" in herring, "others than colours are shown escaped"
    by_trace = stack.run("search", TRACE, "--limit", "2").stdout.splitlines()
    assert len(by_trace) == 2
    assert "other" in by_trace[-1], "the newest lines, oldest first"

    nothing = stack.run("search", "no such words", check=False)
    assert nothing.returncode == 1
    assert nothing.stdout == ""
    assert nothing.stderr.startswith("no line of the last 60 min matches")
    wrong = stack.run("search", "x", "--since", "yesterday", check=False)
    assert wrong.returncode == 64
    assert wrong.stderr.startswith("error: --since yesterday")
    # As far back as lines are kept, which is more than Loki's default limit of 30 days.
    far = stack.run(
        "search", "no such words", "--since", "400d", check=False, TELEMETRY_RETENTION_DAYS="400"
    )
    assert (far.returncode, far.stdout) == (1, "")


@pytest.mark.stack
def test_exception_is_found_by_its_text_and_shown_whole(
    stack: Stack, attach: Attach, log: logging.Logger
) -> None:
    pipeline = attach(OTEL_EXPORTER_OTLP_ENDPOINT=stack.otlp_http)
    error = ValueError("no such item")
    span = trace.SpanContext(int(TRACE, 16), 0xDEF, is_remote=False)
    with trace.use_span(trace.NonRecordingSpan(span)):
        note_trace(error)
    try:
        raise error
    except ValueError:
        log.exception("Exception in ASGI application\n")
    assert pipeline.flush(5)
    stack.wait_logs('{service_name="shop"} |= "ValueError"')
    first, *others = stack.run("search", "valueerror").stdout.splitlines()
    assert first.endswith("error shop Exception in ASGI application")
    assert others[0] == "    Traceback (most recent call last):"
    assert others[-2:] == ["    ValueError: no such item", f"    trace_id={TRACE}"]
    assert "ValueError" in stack.run("search", TRACE, "--service", "shop").stdout
    assert all(line.startswith("    ") for line in others)
