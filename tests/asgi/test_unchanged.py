"""The middleware leaves the app unchanged, and its own failures break no request."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest
from opentelemetry import trace
from starlette.applications import Starlette
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route

import telemetry
from telemetry.testing import Recorded
from tests.asgi.shop import hello, shop
from tests.fixtures.asgi import call, exchange, requests, scope

pytestmark = pytest.mark.usefixtures("recorded")


async def test_app_instrumented_twice_is_counted_once() -> None:
    class Header(BaseHTTPMiddleware):
        async def dispatch(self, request: Request, call_next: Any) -> Response:
            response: Response = await call_next(request)
            response.headers["x-seen"] = "1"
            return response

    inner = telemetry.instrument(Starlette(routes=[Route("/items/{id}", hello)]))
    app = telemetry.instrument(Header(inner))
    assert telemetry.instrument(app) is app
    answer = await call(app, "/items/1")
    assert answer.headers[b"x-seen"] == b"1"
    assert requests() == {("/items/{id}", "200", ""): 1}


async def test_instrumented_app_in_mount_is_counted_once() -> None:
    inner = telemetry.instrument(Starlette(routes=[Route("/items/{id}", hello)]))
    app = telemetry.instrument(Starlette(routes=[Mount("/api", inner)]))
    await call(app, "/api/items/1")
    assert requests() == {("/api/items/{id}", "200", ""): 1}


async def test_disabled_sdk_returns_app_unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    app = Starlette()
    assert telemetry.instrument(app) is app


async def test_attributes_of_app_are_accessible() -> None:
    app = shop()
    app.add_route("/late", hello)
    assert (await call(app, "/late")).status == 200
    with pytest.raises(AttributeError):
        _ = app.no_such_thing


async def test_unknown_scope_type_is_passed_to_app() -> None:
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])

    await telemetry.instrument(app)({"type": "mqtt"}, None, None)
    assert seen == ["mqtt"]


async def test_trace_of_caller_is_current_during_request_only() -> None:
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(trace.get_current_span().get_span_context())

    wrapped = telemetry.instrument(app)
    parent = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    await call(wrapped, "/", headers=[(b"traceparent", parent)])
    assert trace.format_trace_id(seen[0].trace_id) == "0af7651916cd43dd8448eb211c80319c"
    assert trace.format_span_id(seen[0].span_id) == "b7ad6b7169203331"
    assert not trace.get_current_span().get_span_context().is_valid
    for nonsense in (b"", b"00-x-y-01", b"\xff\xfe", parent + b"-more"):
        await call(wrapped, "/", headers=[(b"traceparent", nonsense)])
    assert [context.is_valid for context in seen[1:-1]] == [False] * 3


async def test_request_started_within_another_does_not_inherit_its_trace() -> None:
    """A server starts a pipelined request while it sends the previous response."""
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        span = trace.get_current_span().get_span_context()
        seen.append((scope["path"], f"{span.trace_id:x}"))
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body"})

    wrapped = telemetry.instrument(app)
    parents = {"/1": "1" * 32, "/2": "", "/3": "3" * 32, "/4": "", "/5": ""}
    begun: list[asyncio.Task[Any]] = []

    async def answer(paths: list[str]) -> None:
        path, *rest = paths
        parent = f"00-{parents[path]}-b7ad6b7169203331-01".encode()

        async def send(message: Any) -> None:
            if message["type"] == "http.response.body" and rest:
                begun.append(asyncio.create_task(answer(rest)))

        headers = [(b"traceparent", parent)] if parents[path] else []
        await wrapped(scope(path, headers=headers), exchange().receive, send)

    await answer(list(parents))
    for task in begun:  # each starts the next one
        await task
    assert seen == [(path, parent or "0") for path, parent in parents.items()]


# --- failures that break no request -----------------------------------------------------------


async def test_route_with_raising_path_is_served_and_counted_as_dropped(recorded: Recorded) -> None:
    class Odd:
        @property
        def path_format(self) -> str:
            raise RuntimeError("not a path")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["route"] = Odd()
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"hello"})

    answer = await call(telemetry.instrument(app), "/")
    assert answer.body == b"hello"
    assert recorded.value("telemetry_dropped_total", reason="not_counted") == 1


async def test_full_disk_does_not_break_request_or_count(
    recorded: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any) -> Any:
        raise OSError(28, "No space left on device")

    from telemetry import metrics

    app = shop()
    monkeypatch.setattr(metrics.current().storage, "allocate", full)
    assert (await call(app, "/items/1")).status == 200
    assert requests() == {("/items/{id}", "200", ""): 1}


async def test_scope_with_only_required_keys_is_counted() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body"})

    wrapped = telemetry.instrument(app)
    for _ in itertools.repeat(None, 2):
        bare = {"type": "http", "method": "GET", "path": "/", "headers": []}
        served = exchange()
        await wrapped(bare, served.receive, served.send)
    assert requests() == {("", "200", ""): 2}


async def test_lifespan_messages_are_passed_unchanged() -> None:
    said = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        said.append((await receive())["type"])
        await send({"type": "lifespan.startup.complete"})
        said.append((await receive())["type"])
        await send({"type": "lifespan.shutdown.complete"})

    messages = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    answers = []

    async def receive() -> Any:
        return messages.pop(0)

    async def send(message: Any) -> None:
        answers.append(message["type"])

    await telemetry.instrument(app)({"type": "lifespan"}, receive, send)
    assert said == ["lifespan.startup", "lifespan.shutdown"]
    assert answers == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


async def test_exception_of_app_without_lifespan_is_reraised() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"

    with pytest.raises(AssertionError):
        await telemetry.instrument(app)({"type": "lifespan"}, None, None)
