"""Pipelined requests on every server: none has the trace of the previous one."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ports import free_port
from tests.run.serving import TELEMETRY, environment, served

APP = """
from opentelemetry import trace

async def app(scope, receive, send):
    assert scope["type"] == "http"
    body = f"{trace.get_current_span().get_span_context().trace_id:032x}".encode()
    headers = [(b"content-length", b"32")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
"""
SERVERS = {
    "uvicorn, h11": "uvicorn shop:app --port {port} --http h11",
    "uvicorn, httptools": "uvicorn shop:app --port {port} --http httptools",
    "gunicorn": "gunicorn -b 127.0.0.1:{port} -k uvicorn_worker.UvicornWorker shop:app",
    "gunicorn, its own worker": "gunicorn --graceful-timeout 10 -b 127.0.0.1:{port} -k asgi "
    "shop:app",
    "hypercorn": "hypercorn -b 127.0.0.1:{port} shop:app",
    "granian": "granian --interface asgi --port {port} --workers-kill-timeout 10 shop:app",
    "daphne": "daphne -b 127.0.0.1 -p {port} shop:app",
}
NONE = "0" * 32
CONNECTIONS, REQUESTS = 100, 100


def request(trace: str) -> bytes:
    parent = f"traceparent: 00-{trace}-00f067aa0ba902b7-01\r\n" if trace else ""
    return f"GET / HTTP/1.1\r\nHost: localhost\r\n{parent}\r\n".encode()


def answers(port: int, traces: list[str]) -> Iterator[str]:
    """Send requests at once on one connection; yield the trace id that each one had."""
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        connection.sendall(b"".join(map(request, traces)))
        with connection.makefile("rb") as answer:
            for _ in traces:
                while answer.readline().strip():
                    pass  # the head
                yield answer.read(32).decode()


@pytest.mark.parametrize("spans", ["none", "otlp"])
@pytest.mark.parametrize("server", SERVERS)
def test_pipelined_request_does_not_have_trace_of_previous_one(
    server: str, spans: str, tmp_path: Path
) -> None:
    (tmp_path / "shop.py").write_text(APP)
    port = free_port()
    command = [*TELEMETRY, "run", "--", *SERVERS[server].format(port=port).split()]
    # Not sampled: spans have ids, but none are exported.
    env = environment(
        OTEL_TRACES_EXPORTER=spans,
        OTEL_TRACES_SAMPLER="always_off",
        OTEL_METRICS_EXPORTER="none",
        OTEL_LOGS_EXPORTER="none",
    )
    with served(command, tmp_path, env, port) as running:
        for connection in range(CONNECTIONS):
            sent = [
                f"{connection * REQUESTS + i + 1:032x}" if i % 3 == 0 else ""
                for i in range(REQUESTS)
            ]
            had = list(answers(port, sent))
            assert [trace for trace, given in zip(had, sent, strict=True) if given] == [
                given for given in sent if given
            ]
            own = [trace for trace, given in zip(had, sent, strict=True) if not given]
            if spans == "none":
                assert set(own) == {NONE}
            else:
                assert len(set(own) - set(sent)) == len(own), "each has its own trace"
        running.end()
