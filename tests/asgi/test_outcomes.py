"""A request is counted under its route, status and error type, however it ends."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

import telemetry
from telemetry.testing import Recorded
from tests.asgi.shop import shop
from tests.fixtures.asgi import call, exchange, requests, scope

pytestmark = pytest.mark.usefixtures("recorded")


async def test_response_is_counted_under_route_template() -> None:
    app = shop()
    for number in (1, 2, 3):
        answer = await call(app, f"/items/{number}")
        assert (answer.status, answer.body) == (200, b"hello")
    assert requests() == {("/items/{id}", "200", ""): 3}


async def test_unmatched_paths_are_counted_without_route() -> None:
    app = shop()
    for number in range(200):
        await call(app, f"/wp-admin/{number}.php")
    assert requests() == {("", "404", ""): 200}


async def test_method_not_allowed_is_counted_under_route_template() -> None:
    await call(shop(), "/items/1", "DELETE")
    assert requests() == {("/items/{id}", "405", ""): 1}


async def test_unhandled_exception_is_counted_as_500_with_type_and_reraised() -> None:
    with pytest.raises(LookupError, match="no such thing"):
        await call(shop(), "/broken")
    assert requests() == {("/broken", "500", "LookupError"): 1}


async def test_exception_without_framework_is_counted_as_500() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("at once")

    with pytest.raises(RuntimeError, match="at once"):
        await call(telemetry.instrument(app), "/")
    assert requests() == {("", "500", "RuntimeError"): 1}


async def test_5xx_without_exception_has_code_as_error_type() -> None:
    await call(shop(), "/refusing")
    assert requests() == {("/refusing", "503", "503"): 1}


async def test_exception_during_stream_has_error_type() -> None:
    with pytest.raises(ValueError, match="gone"):
        await call(shop(), "/torn")
    assert requests() == {("/torn", "200", "ValueError"): 1}


@pytest.mark.parametrize(
    ("messages", "status"),
    [
        ([], "500"),
        ([{"type": "http.response.start", "status": 200}], "200"),
    ],
)
async def test_return_before_end_of_response_is_incomplete_response(
    messages: list[dict[str, Any]], status: str
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in messages:
            await send(message)

    await call(telemetry.instrument(app), "/")
    assert requests() == {("", status, "incomplete_response"): 1}


async def test_disconnect_during_stream_is_client_disconnected() -> None:
    served = exchange()

    async def endless(request: Request) -> Response:
        async def chunks() -> Any:
            yield b"first"
            served.left.set()
            await asyncio.Event().wait()

        return StreamingResponse(chunks())

    app = telemetry.instrument(Starlette(routes=[Route("/endless", endless)]), namespace="shop")
    await asyncio.wait_for(app(scope("/endless"), served.receive, served.send), 10)
    assert requests() == {("/endless", "200", "client_disconnected"): 1}


async def test_disconnect_before_response_has_no_status_and_namespaced_499(
    recorded: Recorded,
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    served = exchange()
    served.left.set()
    wrapped = telemetry.instrument(app, namespace="shop")
    await wrapped(scope("/"), served.receive, served.send)
    assert requests() == {("", "", "client_disconnected"): 1}
    assert recorded.value("shop_http_requests_total", status="499") == 1


async def test_disconnect_during_upload_does_not_count_500() -> None:
    async def read(request: Request) -> Response:
        await request.body()
        return PlainTextResponse("never")

    app = telemetry.instrument(Starlette(routes=[Route("/read", read, methods=["POST"])]))
    served = exchange(b"half", b"never sent")
    served.messages.pop()
    served.left.set()
    with pytest.raises(ClientDisconnect):
        await app(scope("/read", "POST"), served.receive, served.send)
    assert served.status == 500, "Starlette's response, which the client never gets"
    assert requests() == {("/read", "", "client_disconnected"): 1}


async def test_disconnect_after_response_is_no_error() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body"})
        assert (await receive())["type"] == "http.request"
        assert (await receive())["type"] == "http.disconnect"

    await call(telemetry.instrument(app), "/")
    assert requests() == {("", "200", ""): 1}


async def test_connection_reset_by_back_end_is_not_client_disconnect() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await call(telemetry.instrument(app), "/")
    assert requests() == {("", "500", "ConnectionResetError"): 1}


async def test_cancelled_request_is_counted_as_cancelled_without_status() -> None:
    waiting = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        waiting.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(call(telemetry.instrument(app), "/"))
    await waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert requests() == {("", "", "cancelled"): 1}


async def test_cancellation_after_response_is_no_error() -> None:
    answered = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 204})
        await send({"type": "http.response.body"})
        answered.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(call(telemetry.instrument(app), "/"))
    await answered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert requests() == {("", "204", ""): 1}


async def test_failing_background_task_does_not_change_status() -> None:
    async def failing() -> None:
        raise OSError("no disk")

    async def endpoint(request: Request) -> Response:
        return PlainTextResponse("ok", background=BackgroundTask(failing))

    app = telemetry.instrument(Starlette(routes=[Route("/", endpoint)]))
    with pytest.raises(OSError, match="no disk"):
        await call(app, "/")
    assert requests() == {("/", "200", ""): 1}
