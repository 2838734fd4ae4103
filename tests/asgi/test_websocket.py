"""WebSocket connections: how many are open, their messages, and how they end."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from opentelemetry import trace
from starlette.applications import Starlette
from starlette.routing import Mount, WebSocketRoute
from starlette.websockets import WebSocket

import telemetry
from telemetry.testing import Recorded

DURATION = "websocket_server_connection_duration_seconds"
MESSAGES = "websocket_server_messages_total"
OPEN = "websocket_server_active_connections"


class Client:
    """A client that sends its messages in order, then waits."""

    def __init__(self, *messages: dict[str, Any]) -> None:
        self.messages = [{"type": "websocket.connect"}, *messages]
        self.received: list[str] = []

    async def receive(self) -> dict[str, Any]:
        if self.messages:
            return self.messages.pop(0)
        await asyncio.Event().wait()
        raise AssertionError

    async def send(self, message: dict[str, Any]) -> None:
        self.received.append(message["type"])

    async def connect(self, app: Any, path: str) -> None:
        scope = {
            "type": "websocket",
            "scheme": "ws",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [],
            "subprotocols": [],
        }
        await app(scope, self.receive, self.send)


def shop(endpoint: Any) -> Any:
    return telemetry.instrument(
        Starlette(routes=[Mount("/{shop}", routes=[WebSocketRoute("/ws/{id}", endpoint)])])
    )


ROUTE = "/{shop}/ws/{id}"


async def test_messages_and_connections_are_counted_by_route(recorded: Recorded) -> None:
    seen = []

    async def echo(websocket: WebSocket) -> None:
        await websocket.accept()
        seen.append(recorded.value(OPEN, url_scheme="ws"))
        for _ in range(2):
            await websocket.send_text(await websocket.receive_text())
        await websocket.send_text("bye")
        await websocket.close(1001)

    messages = [{"type": "websocket.receive", "text": text} for text in "ab"]
    await Client(*messages).connect(shop(echo), "/acme/ws/7")
    assert seen == [1]
    assert recorded.value(OPEN) == 0
    assert recorded.value(MESSAGES, http_route=ROUTE, network_io_direction="receive") == 2
    assert recorded.value(MESSAGES, http_route=ROUTE, network_io_direction="transmit") == 3
    assert recorded.value(DURATION, http_route=ROUTE, websocket_close_code="1001") == 1


@pytest.mark.parametrize(
    ("code", "shown"), [(1000, "1000"), (1006, "1006"), (4321, "_OTHER"), (1005, "1005")]
)
async def test_close_code_of_client_is_recorded(recorded: Recorded, code: int, shown: str) -> None:
    async def listen(websocket: WebSocket) -> None:
        await websocket.accept()
        async for _ in websocket.iter_text():
            pass

    leaves = {"type": "websocket.disconnect", "code": code}
    await Client(leaves).connect(shop(listen), "/acme/ws/7")
    assert recorded.value(DURATION, websocket_close_code=shown, error_type="") == 1


async def test_exception_of_app_is_recorded_as_error_type(recorded: Recorded) -> None:
    async def broken(websocket: WebSocket) -> None:
        await websocket.accept()
        raise LookupError

    with pytest.raises(LookupError):
        await Client().connect(shop(broken), "/acme/ws/7")
    assert recorded.value(DURATION, http_route=ROUTE, error_type="LookupError") == 1
    assert recorded.value(OPEN) == 0


async def test_refused_connection_was_never_active(recorded: Recorded) -> None:
    async def refusing(websocket: WebSocket) -> None:
        await websocket.close(1008)

    await Client().connect(shop(refusing), "/acme/ws/7")
    assert recorded.value(OPEN) == 0
    assert recorded.value(DURATION, http_route=ROUTE, websocket_close_code="1008") == 1


async def test_unmatched_connections_are_counted_without_route(recorded: Recorded) -> None:
    async def never(websocket: WebSocket) -> None:
        raise AssertionError

    for number in range(10):
        await Client().connect(shop(never), f"/{number}")
    assert recorded.value(DURATION, http_route="") == 10


async def test_cancelled_connection_has_error_type_cancelled(recorded: Recorded) -> None:
    waiting = asyncio.Event()

    async def wait(websocket: WebSocket) -> None:
        await websocket.accept()
        waiting.set()
        await websocket.receive_text()

    task = asyncio.create_task(Client().connect(shop(wait), "/acme/ws/7"))
    await waiting.wait()
    assert recorded.value(OPEN) == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert recorded.value(OPEN) == 0
    assert recorded.value(DURATION, error_type="cancelled") == 1


async def test_trace_of_caller_is_current_during_connection(recorded: Recorded) -> None:
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(trace.get_current_span().get_span_context().trace_id)

    wrapped = telemetry.instrument(app)
    parent = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    for headers in ([(b"traceparent", parent)], []):
        scope = {"type": "websocket", "scheme": "ws", "path": "/", "headers": headers}
        await wrapped(scope, None, None)
    assert [f"{trace_id:x}" for trace_id in seen] == ["af7651916cd43dd8448eb211c80319c", "0"]
