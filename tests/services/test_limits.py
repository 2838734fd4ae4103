"""Limits of the services' servers, with hostile clients on plain sockets."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from telemetry import testing
from telemetry.services import limits
from tests.fixtures.simulated import served
from tests.fixtures.stack import until

HEAD = b"POST / HTTP/1.1\r\nhost: localhost\r\n"
REFUSED = "services_requests_refused_total"


async def _app(scope: Scope, receive: Receive, send: Send) -> None:
    """Read the body, then answer with ``?size=`` bytes."""
    if scope["type"] == "lifespan":
        while (message := await receive())["type"] != "lifespan.shutdown":
            await send({"type": f"{message['type']}.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (await receive())["type"] != "websocket.disconnect":
            pass
        return
    if scope["path"] == "/slow":  # a model that thinks for longer than all of the limits
        await asyncio.sleep(limits.BODY_IDLE_S * 5)
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        more = message["more_body"]
    body = b"x" * int(scope["query_string"].partition(b"size=")[2] or 2)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture
def recorded() -> Iterator[testing.Recorded]:
    with testing.isolated() as found:
        yield found


@pytest.fixture
def short_times(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HEAD_S", "BODY_IDLE_S", "UNREAD_S"):
        monkeypatch.setattr(limits, name, 0.3)
    monkeypatch.setattr(limits, "SWEEP_S", 0.05)


@pytest.fixture
def url(recorded: testing.Recorded) -> Iterator[str]:
    own = {
        "http": "telemetry.services.limits:HTTPProtocol",
        "ws": "telemetry.services.limits:WebSocketProtocol",
    }
    with served(_app, **own) as found:
        yield found


def connect(url: str) -> socket.socket:
    parts = urlsplit(url)
    assert parts.hostname
    assert parts.port
    return socket.create_connection((parts.hostname, parts.port), timeout=20)


def answer(client: socket.socket) -> bytes:
    """Read until the server closes the connection."""
    found = b""
    with suppress(ConnectionResetError, BrokenPipeError):
        while part := client.recv(65536):
            found += part
    return found


def flood(client: socket.socket, part: bytes, size: int) -> int:
    """Send ``size`` bytes or until the server closes; return how many were sent."""
    sent = 0
    with suppress(ConnectionResetError, BrokenPipeError):
        while sent < size:
            client.sendall(part)
            sent += len(part)
    return sent


@pytest.mark.parametrize(
    "part",
    [
        b"x" * 65536,  # one endless header
        b"a: b\r\n" * 10_000,
        b"name: " + b"x" * 1000 + b"\r\n",
    ],
    ids=["one", "many", "large"],
)
@pytest.mark.parametrize(
    "head",
    [
        b"GET /",
        HEAD + b"a: ",
        HEAD + b"transfer-encoding: chunked\r\n\r\n0\r\na: ",  # trailers
        HEAD + b"transfer-encoding: chunked\r\n\r\n1;",  # a chunk's extension
    ],
    ids=["line", "header", "trailer", "chunk"],
)
def test_endless_head_is_cut_off_early(url: str, head: bytes, part: bytes) -> None:
    with connect(url) as client:
        client.sendall(head)
        assert flood(client, part, 300 << 20) < 32 << 20, "the rest is in the kernels' buffers"
    assert httpx.get(url).text == "xx"


@pytest.mark.parametrize("pieces", [1, 100])
def test_head_over_the_limit_gets_431(url: str, recorded: testing.Recorded, pieces: int) -> None:
    head = HEAD + b"".join(b"h%d: " % n + b"x" * 1000 + b"\r\n" for n in range(80)) + b"\r\n"
    with connect(url) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        step = len(head) // pieces
        with suppress(ConnectionResetError, BrokenPipeError):
            for at in range(0, len(head), step):
                client.sendall(head[at : at + step])
        got = answer(client)
    assert got.startswith(b"HTTP/1.1 431 ")
    assert "too large" in json.loads(got.partition(b"\r\n\r\n")[2])["error"]["message"]
    assert recorded.value(REFUSED, reason="headers") == 1


def test_large_heads_and_bodies_of_real_clients_are_served(url: str) -> None:
    headers = {f"h{n}": "x" * 1000 for n in range(50)}
    with httpx.Client(headers=headers) as client:
        for _ in range(3):  # on one connection
            assert client.post(url, content=b"x" * (8 << 20)).text == "xx"
            chunked = client.post(url, content=iter([b"x" * 100_000] * 20))
            assert chunked.text == "xx"


def test_invalid_http_gets_400_as_json(url: str) -> None:
    with connect(url) as client:
        client.sendall(b"\0\0\0\r\n\r\n")
        got = answer(client)
    assert got.startswith(b"HTTP/1.1 400 ")
    assert "not valid HTTP" in json.loads(got.partition(b"\r\n\r\n")[2])["error"]["message"]


@pytest.mark.usefixtures("short_times")
@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"\r\n",
        b"GET / HT",
        HEAD,
        HEAD + b"content-length: 10\r\n\r\n",
        HEAD + b"content-length: 10\r\n\r\nxx",
        HEAD + b"transfer-encoding: chunked\r\n\r\n2\r\nxx\r\n",
    ],
)
def test_slow_client_is_cut(url: str, recorded: testing.Recorded, sent: bytes) -> None:
    with connect(url) as client:
        client.sendall(sent)
        assert answer(client).startswith(b"HTTP/1.1 408 ")
    assert recorded.value(REFUSED, reason="slow") == 1


@pytest.mark.usefixtures("short_times")
@pytest.mark.parametrize("sent", [b"\r\n", b"GET / H"])
def test_client_that_is_slow_with_its_second_request_is_cut(url: str, sent: bytes) -> None:
    with connect(url) as client:
        client.sendall(HEAD + b"content-length: 0\r\n\r\n")
        got = b""
        while not got.endswith(b"xx\r\n0\r\n\r\n"):
            got += client.recv(1000)
        client.sendall(sent)
        assert answer(client).startswith(b"HTTP/1.1 408 ")


@pytest.mark.usefixtures("short_times")
def test_head_that_trickles_is_cut(url: str) -> None:
    """Each byte is soon enough; the whole is not."""
    with connect(url) as client:
        client.settimeout(0.02)
        sent, got = 0, b""
        client.sendall(b"GET / HTTP/1.1\r\nx: ")
        while not got:
            assert sent < 1000
            try:
                got = client.recv(100)
            except TimeoutError:
                client.sendall(b"x")
                sent += 1
    assert got.startswith(b"HTTP/1.1 408 ")


@pytest.mark.usefixtures("short_times")
def test_client_that_waits_for_a_long_answer_is_not_cut(url: str) -> None:
    assert httpx.post(f"{url}/slow", content=b"x", timeout=30).text == "xx"
    big = iter([b"x" * 1000] * 200)  # more than the server reads before the app wants it
    assert httpx.post(f"{url}/slow", content=big, timeout=30).text == "xx"


@pytest.mark.usefixtures("short_times")
def test_client_that_never_reads_its_answer_is_cut(url: str, recorded: testing.Recorded) -> None:
    with connect(url) as client:
        client.sendall(b"GET /?size=50000000 HTTP/1.1\r\nhost: localhost\r\n\r\n")
        until(lambda: recorded.value(REFUSED, reason="slow") == 1)
        assert len(answer(client)) < 50_000_000


def test_connections_of_one_address_are_limited_and_others_still_connect(
    recorded: testing.Recorded, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setattr(limits, "connections_per_address", lambda: 5)
    url = request.getfixturevalue("url")
    held = [connect(url) for _ in range(5)]
    with connect(url) as client:
        assert answer(client).startswith(b"HTTP/1.1 503 ")
    assert recorded.value(REFUSED, reason="connections") == 1
    elsewhere = httpx.HTTPTransport(local_address="127.0.0.2")
    with httpx.Client(transport=elsewhere) as other:
        assert other.get(url).text == "xx"
    held.pop().close()

    def served_again() -> bool:
        return httpx.get(url).status_code == 200

    until(served_again)
    for client in held:
        client.close()


def test_websocket_counts_as_one_connection_until_it_ends(
    recorded: testing.Recorded, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    from websockets.sync.client import connect as open_websocket

    monkeypatch.setattr(limits, "connections_per_address", lambda: 2)
    url = request.getfixturevalue("url")
    for _ in range(5):
        with open_websocket(url.replace("http", "ws")):
            assert httpx.get(url).text == "xx"
    assert recorded.value(REFUSED, reason="connections") == 0


def test_websocket_that_sends_pings_and_reads_no_pongs_is_cut(
    url: str, recorded: testing.Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "UNREAD_BYTES", 100_000)
    ping = b"\x89\xfd\0\0\0\0" + b"x" * 125
    with connect(url) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.sendall(
            b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
            b"sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        got = b""
        while not got.endswith(b"\r\n\r\n"):
            got += client.recv(1)
        assert flood(client, ping * 500, 300 << 20) < 64 << 20
    assert recorded.value(REFUSED, reason="slow") == 1


def test_services_are_served_with_the_limits() -> None:
    from telemetry.services import serve

    config: Any = serve.config(_app)
    config.load()
    assert config.http_protocol_class is limits.HTTPProtocol
    assert config.ws_protocol_class is limits.WebSocketProtocol
    assert not config.proxy_headers
