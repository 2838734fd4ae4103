"""What a hostile container tries with the relay, on real sockets: it reaches nothing of others."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Iterator

import httpx
import pytest

from telemetry.services.platform.relay import listener, model_calls, tokens
from tests.fixtures.stack import until
from tests.fixtures.streams import serving
from tests.platform.conftest import Running, Start
from tests.platform.test_relay import listening, token

SMUGGLED = b"GET /api/keys HTTP/1.1\r\nhost: x\r\nauthorization: Bearer admin-secret\r\n\r\n"


class Upstream:
    """A server that answers every request with 200, and keeps each one's head as it came."""

    def __init__(self) -> None:
        self.heads: list[bytes] = []
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            self.heads.append(head)
            if found := re.search(rb"content-length: *(\d+)", head, re.I):
                await reader.readexactly(int(found[1]))
            elif b"chunked" in head.lower():
                await reader.readuntil(b"0\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

    def paths(self) -> set[bytes]:
        return {head.split(b" ")[1].partition(b"?")[0] for head in self.heads}


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    """In place of the Collector and the proxy."""
    found = Upstream()
    with serving(found.serve) as found.url:
        yield found


@pytest.fixture
def relay(
    run_platform: Start, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Running]:
    """A relay on loopback; ann, who is hostile, and bob have a container."""
    # It soon closes connections whose last request is part of another one's body.
    monkeypatch.setattr(listener, "IDLE_S", 1)
    monkeypatch.setattr(listener, "LINGER_S", 0.1)
    monkeypatch.setattr(model_calls, "STALL_S", 1)
    with run_platform(
        TELEMETRY_PLATFORM_RELAY_HOST="localhost",
        TELEMETRY_PROXY_URL=upstream.url,
        OTEL_EXPORTER_OTLP_ENDPOINT=upstream.url,
    ) as running:
        for handle in ("ann", "bob"):
            running.platform.store.begin(handle, {"image": "x"})
        listening(running)
        yield running


# A last request, which is answered by 401: closing this side would look like a disconnect.
LAST = b"POST /otlp/v1/logs HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


def raw(relay: Running, sent: bytes) -> list[int]:
    """Send bytes and a last request, and return the status of each answer but the last."""
    address = ("127.0.0.1", relay.platform.settings.relay_port)
    with socket.create_connection(address, 20) as connection:
        connection.sendall(sent + LAST)
        answers = b""
        try:
            while data := connection.recv(65536):
                answers += data
        except ConnectionResetError:
            pass
    statuses = [int(status) for status in re.findall(rb"HTTP/1\.\d (\d+) ", answers)]
    return statuses[:-1] if statuses[-1:] == [401] else statuses


def own(relay: Running) -> bytes:
    """The authorization header of ann."""
    return f"authorization: {token(relay, 'ann')['authorization']}\r\n".encode()


PATHS = [
    b"/api/keys",
    b"/admin",
    b"/api/containers",
    b"/health",
    b"/metrics",
    b"/proxy",
    b"/proxy/",
    b"/proxy/api/keys",
    b"/proxy/api/costs",
    b"/proxy/api/users/bob/budget",
    b"/proxy/health",
    b"/proxy/metrics",
    b"/proxy//api/keys",
    b"//proxy/api/keys",
    b"/proxy/v1/../api/keys",
    b"/proxy/v1/..;/api/keys",
    b"/proxy/v1/%2e%2e/api/keys",
    b"/proxy/v1/%252e%252e/api/keys",
    b"/proxy/v1/..%2fapi/keys",
    b"/proxy/v1/%2e%2e%2fapi%2fkeys",
    b"/proxy/v1/..%5capi%5ckeys",
    b"/proxy/v1\\..\\api\\keys",
    b"/proxy/v1/x%00/../../api/keys",
    b"/proxy/v1/x%0d%0ahost:%20evil",
    b"/proxy/v1/\xc0\xae\xc0\xae/api/keys",
    b"/proxy/v1/%ef%bc%8e%ef%bc%8e/api/keys",
    b"/proxy/v1/./.././api/keys",
    b"/proxy/api/calls/../keys",
    b"/proxy/api/calls/x/../../keys",
    b"/proxy/api/calls/%2e%2e%2fkeys",
    b"/otlp/v1/../../proxy/api/keys",
    b"/otlp/v1/metrics/../../../api/keys",
    b"/otlp/v1/profiles",
    b"http://127.0.0.1/proxy/api/keys",
    b"http://evil.example/api/keys",
    b"*",
]


@pytest.mark.parametrize("path", PATHS)
def test_path_trick_reaches_nothing(relay: Running, upstream: Upstream, path: bytes) -> None:
    """Neither the proxy's admin API nor the platform's own, not even with the admin token."""
    rest = b" HTTP/1.1\r\nhost: x\r\nauthorization: Bearer admin-secret\r\n\r\n"
    for method in (b"GET", b"POST", b"OPTIONS", b"CONNECT"):
        statuses = raw(relay, method + b" " + path + rest)
        assert set(statuses) <= {400, 404, 405}, (method, statuses)
    assert upstream.heads == []


def test_host_of_an_absolute_url_is_ignored(relay: Running, upstream: Upstream) -> None:
    """The relay is no open proxy: the path alone counts."""
    other = Upstream()
    with serving(other.serve) as other.url:
        absolute = f"GET {other.url}/proxy/v1/models HTTP/1.1\r\nhost: x\r\n\r\n"
        assert raw(relay, absolute.encode()) == [200]
        connect = f"CONNECT {other.url.removeprefix('http://')} HTTP/1.1\r\nhost: x\r\n\r\n"
        assert set(raw(relay, connect.encode())) <= {400, 404}
        assert other.heads == []
    assert upstream.paths() == {b"/v1/models"}


POST = b"POST /proxy/v1/messages HTTP/1.1\r\nhost: x\r\n"
CHUNKED = b"transfer-encoding: chunked\r\n"
LENGTH = b"content-length: %d\r\n"
AMBIGUOUS = {
    "length and chunked": POST + LENGTH % 4 + CHUNKED + b"\r\n0\r\n\r\n" + SMUGGLED,
    "chunked and length": POST + CHUNKED + LENGTH % 4 + b"\r\n0\r\n\r\n" + SMUGGLED,
    "two lengths": POST + LENGTH % 0 + LENGTH % len(SMUGGLED) + b"\r\n" + SMUGGLED,
    "list of lengths": POST + b"content-length: 0, 75\r\n\r\n" + SMUGGLED,
    "signed length": POST + b"content-length: +0\r\n\r\n" + SMUGGLED,
    "hexadecimal length": POST + b"content-length: 0x4b\r\n\r\n" + SMUGGLED,
    "negative length": POST + b"content-length: -1\r\n\r\n" + SMUGGLED,
    "unknown coding": POST + b"transfer-encoding: xchunked\r\n\r\n" + SMUGGLED,
    "chunked is not last": POST + b"transfer-encoding: chunked, x\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "chunked twice": POST + CHUNKED + CHUNKED + b"\r\n0\r\n\r\n" + SMUGGLED,
    "space before the colon": POST + b"transfer-encoding : chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "folded header": POST + b"x: y\r\n transfer-encoding: chunked\r\n\r\n" + SMUGGLED,
    "folded coding": POST + b"transfer-encoding:\r\n chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "bare line feeds": POST.replace(b"\r\n", b"\n") + b"\n" + SMUGGLED,
    "bare line feed in a header": POST + b"x: y\ncontent-length: 0\r\n\r\n" + SMUGGLED,
    "bare carriage return": POST + b"x: y\rcontent-length: 0\r\n\r\n" + SMUGGLED,
    "null byte": POST + b"x: y\x00z\r\n\r\n" + SMUGGLED,
    "space in a name": POST + b"content length: 75\r\n\r\n" + SMUGGLED,
    "odd chunk size": POST + CHUNKED + b"\r\n0x1\r\na\r\n0\r\n\r\n" + SMUGGLED,
    "line feed in a chunk extension": POST + CHUNKED + b"\r\n1;a\nb\r\na\r\n0\r\n\r\n" + SMUGGLED,
    "chunk longer than it says": POST + CHUNKED + b"\r\n1\r\nabc\r\n0\r\n\r\n" + SMUGGLED,
    "version": b"POST /proxy/v1/messages HTTP/1.1 HTTP/0.9\r\nhost: x\r\n\r\n" + SMUGGLED,
}


@pytest.mark.parametrize("sent", AMBIGUOUS.values(), ids=AMBIGUOUS)
def test_request_that_two_servers_may_read_differently_smuggles_nothing(
    relay: Running, upstream: Upstream, sent: bytes
) -> None:
    """The upstream sees no second request, and the relay answers one itself at most."""
    statuses = raw(relay, sent)
    assert b"/api/keys" not in upstream.paths()
    assert all(b"/api/keys" not in head for head in upstream.heads)
    assert len(upstream.heads) <= 1
    assert statuses[:1] in ([], [200], [400]), statuses
    if len(statuses) > 1:
        assert statuses[1:] == [404], "the smuggled one is the relay's own"


@pytest.mark.parametrize("path", [b"/proxy/v1/messages", b"/otlp/v1/logs"])
def test_invalid_chunk_gets_400(relay: Running, upstream: Upstream, path: bytes) -> None:
    head = b"POST " + path + b" HTTP/1.1\r\nhost: x\r\n" + CHUNKED + own(relay) + b"\r\n"
    assert raw(relay, head + b"2\r\nok\r\nzz\r\n") == [400]


def test_failing_requests_can_not_fill_the_log(
    relay: Running, upstream: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(10):
        raw(relay, POST + b"content-length: -1\r\n\r\n")
        raw(relay, POST + CHUNKED + b"\r\nzz\r\n")
    failed = [r for r in caplog.records if "Error handling request" in r.getMessage()]
    assert 0 < len(failed) <= 2
    assert not any(record.exc_info for record in failed), "the client's fault has no traceback"
    assert not any(record.name.startswith("aiohttp") for record in caplog.records)


def test_pipelined_request_is_judged_by_itself(relay: Running, upstream: Upstream) -> None:
    first = POST + LENGTH % 2 + b"\r\n{}"
    assert raw(relay, first + SMUGGLED) == [200, 404]
    assert upstream.paths() == {b"/v1/messages"}


def test_headers_of_one_connection_only_are_not_forwarded(
    relay: Running, upstream: Upstream
) -> None:
    """Neither the standard ones, nor those that `connection` names."""
    sent = b"connection: x-secret, keep-alive\r\nx-secret: 1\r\nkeep-alive: 5\r\nte: trailers\r\n"
    assert raw(relay, b"GET /proxy/v1/models HTTP/1.1\r\nhost: x\r\n" + sent + b"\r\n") == [200]
    (head,) = upstream.heads
    names = {line.partition(b":")[0].lower() for line in head.split(b"\r\n")[1:]}
    assert not names & {b"x-secret", b"keep-alive", b"te", b"connection"}


CLAIMS = {
    "once": b"x-telemetry-handle: bob\r\n",
    "twice": b"x-telemetry-handle: bob\r\nx-telemetry-handle: eve\r\n",
    "in other case": b"X-TELEMETRY-Handle: bob\r\n",
    "with underscores": b"x_telemetry_handle: bob\r\nx-telemetry_handle: bob\r\n",
    "in the user agent": b"user-agent: x, x-telemetry-handle: bob\r\n",
    "in a trailer": b"trailer: x-telemetry-handle\r\n",
    "as the connection's": b"connection: x-telemetry-handle\r\n",
}


@pytest.mark.parametrize("claimed", CLAIMS.values(), ids=CLAIMS)
def test_claimed_handle_is_not_forwarded(
    relay: Running, upstream: Upstream, claimed: bytes
) -> None:
    request = b"POST /otlp/v1/logs HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n"
    assert raw(relay, request + own(relay) + claimed + b"\r\n") == [200]
    (head,) = upstream.heads
    lines = head.decode().lower().split("\r\n")
    handles = [line for line in lines if re.match(r"x.telemetry.handle", line)]
    assert handles == ["x-telemetry-handle: ann"]


def test_handle_in_a_chunked_bodys_trailer_is_not_forwarded(
    relay: Running, upstream: Upstream
) -> None:
    request = b"POST /otlp/v1/logs HTTP/1.1\r\nhost: x\r\n" + CHUNKED + own(relay)
    raw(relay, request + b"\r\n0\r\nx-telemetry-handle: bob\r\n\r\n")
    assert all(b"bob" not in head for head in upstream.heads)


def test_token_of_another_container_can_not_be_made(relay: Running, upstream: Upstream) -> None:
    """Neither from one's own, nor by a second header."""
    secret = relay.platform.settings.otlp_token
    mine = tokens.issue(secret, "ann")
    signature = mine.partition("~")[2]
    forged = [
        f"bob~{signature}",
        f"bob~{mine}",
        f"ann~bob~{signature}",
        f"bob{mine}",
        "bob~",
        "~",
        f"~{signature}",
        f"bob~{signature.upper()}",
        mine.replace("ann", "Ann"),
        f"{mine}0",
        secret,
    ]
    request = b"POST /otlp/v1/logs HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n"
    for each in forged:
        header = f"authorization: Bearer {each}\r\n\r\n".encode()
        assert raw(relay, request + header) == [401], each
    # Of two headers one counts, and both must not be needed.
    bob = f"authorization: Bearer bob~{signature}\r\n".encode()
    for headers in (own(relay) + bob, bob + own(relay)):
        assert raw(relay, request + headers + b"\r\n") in ([200], [400], [401])
    assert all(b"x-telemetry-handle: bob" not in head.lower() for head in upstream.heads)


def test_key_sees_its_own_calls_only(run_platform: Start, proxy_url: str) -> None:
    """Another container's call is unknown, as is one that does not exist."""
    with run_platform(TELEMETRY_PLATFORM_RELAY_HOST="localhost") as running:
        base = f"{listening(running)}/proxy"
        ann, bob = (running.platform.keys.create(user).secret for user in ("ann", "bob"))
        body = {
            "model": "claude-sonnet-4-6",
            "max_tokens": 10,
            "messages": [{"role": "user", "content": "Hello"}],
        }
        call = httpx.post(f"{base}/v1/messages", json=body, headers={"x-api-key": bob}).headers[
            "x-telemetry-call-id"
        ]
        path = f"{base}/api/calls/{call}"
        assert httpx.get(path, headers={"x-api-key": bob}, timeout=60).status_code == 200
        unknown = httpx.get(path, headers={"x-api-key": ann}, timeout=60)
        assert unknown.status_code == 404
        nothing = httpx.get(f"{base}/api/calls/call_0", headers={"x-api-key": ann}, timeout=60)
        assert (nothing.status_code, nothing.text) == (404, unknown.text)
        assert httpx.get(path, timeout=60).status_code == 401
        # A key is no admin's either.
        for key in (ann, bob):
            keys = f"{proxy_url}/api/keys"
            assert httpx.get(keys, headers={"x-api-key": key}).status_code == 401
        until(lambda: running.platform.keys.costs_today().get("bob"))
