"""An exception of the app is exported whole, with the trace of the request that failed."""

from __future__ import annotations

import contextlib
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.fixtures.otlp import Log, Receiver
from tests.fixtures.stack import until
from tests.ports import free_port
from tests.run.serving import TELEMETRY, environment, served

APP = """
ONCE_MADE = LookupError("made once")

async def app(scope, receive, send):
    assert scope["type"] == "http"
    if scope["path"] == "/fails":
        raise ValueError("no such <item>") from KeyError("item")
    if scope["path"] == "/again":
        raise ONCE_MADE
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})
"""
SERVERS = {
    "uvicorn": "uvicorn failing:app --port {port}",
    "gunicorn": "gunicorn -b 127.0.0.1:{port} -k uvicorn_worker.UvicornWorker failing:app",
    "hypercorn": "hypercorn -b 127.0.0.1:{port} failing:app",
}
TRACE = "5af7651916cd43dd8448eb211c80319c"


def _request(base: str, path: str, trace_id: str = "") -> None:
    headers = {"traceparent": f"00-{trace_id}-00f067aa0ba902b7-01"} if trace_id else {}
    with contextlib.suppress(urllib.error.HTTPError):
        urllib.request.urlopen(urllib.request.Request(base + path, headers=headers), timeout=10)


def _failures(otlp: Receiver, text: str, count: int) -> list[Log]:
    def found() -> list[Log]:
        return [log for log in tuple(otlp.logs) if text in log.body]

    until(lambda: len(found()) >= count, what=f"{count} records with {text}")
    return found()


@pytest.mark.parametrize("spans", ["", "otlp"], ids=["no spans", "spans"])
@pytest.mark.parametrize("server", SERVERS)
def test_exception_is_found_by_its_text_and_has_trace_of_its_request(
    server: str, spans: str, tmp_path: Path, otlp: Receiver
) -> None:
    (tmp_path / "failing.py").write_text(APP)
    port = free_port()
    command = [*TELEMETRY, "run", "--", *SERVERS[server].format(port=port).split()]
    env = environment(
        OTEL_EXPORTER_OTLP_ENDPOINT=otlp.url,
        OTEL_METRIC_EXPORT_INTERVAL="3600000",
        OTEL_BLRP_SCHEDULE_DELAY="100",
        OTEL_TRACES_EXPORTER=spans or "none",
    )
    with served(command, tmp_path, env, port, ready="/metrics") as running:
        _request(running.base, "/fails", TRACE)
        (log,) = _failures(otlp, "no such <item>", 1)
        _request(running.base, "/again", TRACE)
        _failures(otlp, "made once", 1)
        _request(running.base, "/again")
        _, second = _failures(otlp, "made once", 2)
    first, *stack = log.body.splitlines()
    assert "rror" in first or "xception" in first, "the server's own message"
    assert "" not in stack[:1]
    assert "Traceback (most recent call last):" in stack
    assert "KeyError: 'item'" in stack
    assert stack[-1] == "ValueError: no such <item>"
    assert '    raise ValueError("no such <item>") from KeyError("item")' in stack
    assert log.attributes["exception.type"] == "ValueError"
    assert log.trace_id == TRACE
    assert (log.span_id != "00f067aa0ba902b7") == bool(spans)
    assert second.trace_id != TRACE, "an earlier request's trace is not used again"
    assert bool(second.trace_id) == bool(spans)
