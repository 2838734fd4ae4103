"""Templates of FastAPI's routers and sub-apps, and suppression of its own instrumentation."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import APIRouter, FastAPI, WebSocket
from opentelemetry import metrics as otel_metrics
from starlette.routing import Mount

import telemetry
from telemetry.export.pipeline import Pipeline
from telemetry.metrics.registry import Registry
from telemetry.settings.library import Settings
from telemetry.testing import Recorded
from tests.fixtures.asgi import DURATION, call, requests

pytestmark = pytest.mark.usefixtures("recorded")


def site() -> FastAPI:
    app = FastAPI()
    inner = APIRouter(prefix="/inner/{a}")

    @inner.get("/x/{b:path}")
    async def x(a: str, b: str) -> str:
        return a + b

    @inner.get("/broken")
    async def broken(a: str) -> str:
        raise LookupError(a)

    @inner.websocket("/ws/{b}")
    async def ws(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text("hi")
        await websocket.close()

    versions = APIRouter()
    versions.include_router(inner, prefix="/v1")
    versions.include_router(inner, prefix="/v2")
    app.include_router(versions, prefix="/api")
    sub = FastAPI()

    @sub.get("/s/{id}")
    async def s(id: int) -> int:
        return id

    app.mount("/sub/{tenant}", sub)
    return app


@pytest.mark.parametrize(
    ("path", "status", "template"),
    [
        ("/api/v1/inner/1/x/2/3", 200, "/api/v1/inner/{a}/x/{b}"),
        ("/api/v2/inner/1/x/2/3", 200, "/api/v2/inner/{a}/x/{b}"),
        ("/sub/acme/s/9", 200, "/sub/{tenant}/s/{id}"),
        ("/sub/acme/s/nine", 422, "/sub/{tenant}/s/{id}"),
        ("/docs", 200, "/docs"),
        ("/sub/acme/none", 404, ""),
        ("/none", 404, ""),
    ],
)
async def test_request_is_counted_under_template(path: str, status: int, template: str) -> None:
    await call(telemetry.instrument(site()), path)
    assert requests() == {(template, str(status), ""): 1}


async def test_router_under_two_prefixes_has_two_templates() -> None:
    app = telemetry.instrument(site())
    for version in ("v1", "v2", "v1"):
        await call(app, f"/api/{version}/inner/1/x/2")
    assert requests() == {
        ("/api/v1/inner/{a}/x/{b}", "200", ""): 2,
        ("/api/v2/inner/{a}/x/{b}", "200", ""): 1,
    }


async def test_method_not_allowed_keeps_template() -> None:
    await call(telemetry.instrument(site()), "/api/v1/inner/1/x/2", "DELETE")
    assert requests() == {("/api/v1/inner/{a}/x/{b}", "405", ""): 1}


async def test_unhandled_exception_has_template_and_type() -> None:
    with pytest.raises(LookupError):
        await call(telemetry.instrument(site()), "/api/v1/inner/1/broken")
    assert requests() == {("/api/v1/inner/{a}/broken", "500", "LookupError"): 1}


async def test_template_includes_starlette_mount() -> None:
    from starlette.applications import Starlette

    app = telemetry.instrument(Starlette(routes=[Mount("/{shop}", app=site())]))
    await call(app, "/acme/sub/t/s/1")
    assert requests() == {("/{shop}/sub/{tenant}/s/{id}", "200", ""): 1}


async def test_websocket_messages_have_template(recorded: Recorded) -> None:
    messages = [{"type": "websocket.connect"}]

    async def receive() -> Any:
        return messages.pop(0) if messages else {"type": "websocket.disconnect", "code": 1000}

    async def send(message: Any) -> None:
        pass

    scope = {
        "type": "websocket",
        "scheme": "ws",
        "path": "/api/v1/inner/1/ws/2",
        "headers": [],
        "query_string": b"",
        "root_path": "",
        "subprotocols": [],
    }
    await telemetry.instrument(site())(scope, receive, send)
    route = "/api/v1/inner/{a}/ws/{b}"
    assert recorded.value("websocket_server_messages_total", http_route=route) == 1


async def test_request_is_counted_once_although_fastapi_counts_too(recorded: Recorded) -> None:
    """FastAPI counts requests once there is a global meter provider. The pipeline sets one."""
    none = {"OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none"}
    pipeline = Pipeline(Settings.from_env(none), Registry())
    pipeline.start()
    try:
        assert getattr(otel_metrics.get_meter_provider(), "telemetry_own", False)
        app = site()
        assert not app._native_telemetry.enabled(), "it costs ten times as much as ours"
        await call(telemetry.instrument(app), "/docs")
        counted_otherwise = [
            p for p in pipeline.page.points() if p.metric.name.startswith("http.server")
        ]
        assert counted_otherwise == []
        assert recorded.value(DURATION) == 1
    finally:
        pipeline.shutdown()


async def test_fastapi_instrumentation_stays_on_if_app_configures_it() -> None:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    spans = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    app = FastAPI(telemetry={"tracer_provider": provider, "metrics": False})

    @app.get("/items/{id}")
    async def item(id: int) -> int:
        return id

    await call(telemetry.instrument(app), "/items/1")
    assert "GET /items/{id}" in {span.name for span in spans.get_finished_spans()}
    assert requests() == {("/items/{id}", "200", ""): 1}
