"""Optional spans, and the trace of a request with and without them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap

from tests.fixtures.otlp import Receiver

_APP = textwrap.dedent(
    """
    import asyncio, json, logging, sys
    import telemetry
    from telemetry import testing
    from opentelemetry import trace
    from starlette.applications import Starlette
    from starlette.responses import JSONResponse
    from starlette.routing import Route
    from tests.fixtures.asgi import call

    async def item(request):
        span = trace.get_current_span().get_span_context()
        logging.getLogger("shop").warning("in a request")
        return JSONResponse([trace.format_trace_id(span.trace_id),
                             trace.format_span_id(span.span_id)])

    app = telemetry.instrument(Starlette(routes=[Route("/items/{id}", item)]), service_name="shop")
    parent = (b"traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")

    async def main():
        answer = await call(app, "/items/1", headers=[parent])
        counted = testing.collect()
        print(json.dumps({
            "ids": json.loads(answer.body),
            "counted": [v for (n, l), v in counted.items()
                        if n == "http_server_request_duration_seconds"],
            "shown": (await call(app, "/metrics")).body.decode().count("duration_seconds_count"),
        }))

    asyncio.run(main())
    telemetry.flush()
    """
)


def run(otlp: Receiver, **environ: str) -> tuple[dict[str, object], str]:
    env = {
        **os.environ,
        "OTEL_EXPORTER_OTLP_ENDPOINT": otlp.url,
        "OTEL_METRIC_EXPORT_INTERVAL": "3600000",
        **environ,
    }
    done = subprocess.run(
        [sys.executable, "-c", _APP],
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    (line,) = (line for line in done.stdout.splitlines() if line.startswith('{"ids"'))
    return json.loads(line), done.stdout


def test_request_without_spans_has_trace_of_caller(otlp: Receiver) -> None:
    found, _ = run(otlp)
    assert found["ids"] == ["0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"]
    (log,) = (log for log in otlp.logs if log.body == "in a request")
    assert (log.trace_id, log.span_id) == ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331")


def test_request_with_spans_has_own_span_and_is_counted_once(otlp: Receiver) -> None:
    found, printed = run(otlp, OTEL_TRACES_EXPORTER="console")
    trace_id, span_id = found["ids"]  # type: ignore[misc]
    assert trace_id == "0af7651916cd43dd8448eb211c80319c"
    assert span_id != "b7ad6b7169203331", "the request has its own span"
    assert f'"span_id": "0x{span_id}"' in printed
    assert '"parent_id": "0xb7ad6b7169203331"' in printed
    assert found["counted"] == [1]
    assert found["shown"] == 1
    (log,) = (log for log in otlp.logs if log.body == "in a request")
    assert (log.trace_id, log.span_id) == (trace_id, span_id)
