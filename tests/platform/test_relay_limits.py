"""OTLP through the real relay by a container that sends too much, too slowly or too fast."""

from __future__ import annotations

import asyncio
import gzip
import socket
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest

from telemetry import testing
from telemetry.services.platform.relay import admission, body, model_calls
from telemetry.services.platform.relay.series import ExportMetricsServiceResponse
from tests.fixtures.otlp import Receiver
from tests.fixtures.simulated import served
from tests.fixtures.stack import until
from tests.platform.conftest import Running, Start
from tests.platform.test_relay import listening, token
from tests.platform.test_series import gauge

REFUSED, DROPPED = "platform_relay_refused_total", "platform_relay_dropped_total"
PROTOBUF = {"content-type": "application/x-protobuf"}
MIB = 1 << 20


@pytest.fixture
def relay(run_platform: Start) -> Iterator[Running]:
    """A relay on loopback with a limit of four series; ann and bob have a container."""
    with run_platform(
        TELEMETRY_PLATFORM_RELAY_HOST="localhost", TELEMETRY_PLATFORM_RELAY_SERIES="4"
    ) as running:
        running.platform.store.begin("ann", {"image": "x"})
        running.platform.store.begin("bob", {"image": "x"})
        yield running


def post(relay: Running, signal: str, content: bytes, **headers: str) -> httpx.Response:
    sent = {**token(relay, headers.pop("handle", "ann")), **PROTOBUF}
    sent |= {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.post(
        f"{listening(relay)}/otlp/v1/{signal}", content=content, headers=sent, timeout=60
    )


def begin(relay: Running, path: str, length: int, *lines: str) -> socket.socket:
    """Send the headers of a request with a body of ``length`` bytes, and no byte of it."""
    found = socket.create_connection(("127.0.0.1", relay.platform.settings.relay_port), 20)
    headers = [*(f"{n}: {v}" for n, v in token(relay, "ann").items()), *lines]
    start = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n"
    found.sendall((start + "".join(f"{line}\r\n" for line in headers) + "\r\n").encode())
    return found


def test_points_beyond_the_series_limit_are_dropped_counted_and_told(
    relay: Running,
    otlp: Receiver,
    recorded: testing.Recorded,
    caplog: pytest.LogCaptureFixture,
) -> None:
    response = post(relay, "metrics", gauge([str(n) for n in range(60_000)]))
    said = ExportMetricsServiceResponse.FromString(response.content).partial_success
    assert (response.status_code, said.rejected_data_points) == (200, 59_997)
    assert recorded.value(DROPPED, handle="ann") == 59_997
    assert "new series of the container ann are dropped" in caplog.text
    ((found,),) = [request.resource_metrics for request in otlp.metrics]
    assert len(found.scope_metrics[0].metrics[0].gauge.data_points) == 3
    # Another container is not affected.
    assert post(relay, "metrics", gauge(["x"]), handle="bob").content == b""
    assert recorded.value(DROPPED, handle="bob") is None


def test_request_with_nothing_left_is_answered_without_the_collector(
    relay: Running, otlp: Receiver
) -> None:
    post(relay, "metrics", gauge(["a", "b", "c"]))
    response = post(relay, "metrics", gauge(["d"]))
    said = ExportMetricsServiceResponse.FromString(response.content).partial_success
    assert (response.status_code, said.rejected_data_points) == (200, 1)
    assert otlp.requests == 1


@pytest.mark.parametrize(
    ("encoding", "compress"), [("gzip", gzip.compress), ("deflate", zlib.compress)]
)
def test_decompression_bomb_gets_413(
    relay: Running,
    otlp: Receiver,
    recorded: testing.Recorded,
    encoding: str,
    compress: Callable[[bytes], bytes],
) -> None:
    packed = compress(bytes(100 * MIB))
    assert len(packed) < MIB
    response = post(relay, "metrics", packed, content_encoding=encoding)
    assert response.status_code == 413
    assert "16777216 bytes, uncompressed" in response.json()["message"]
    assert recorded.value(REFUSED, handle="ann", reason="size") == 1
    assert otlp.requests == 0


@pytest.mark.parametrize(
    ("content", "encoding", "status"),
    [
        (gzip.compress(b"x" * 1000, mtime=0)[:-9], "gzip", 400),
        (gzip.compress(b"x", mtime=0) + b"more", "gzip", 400),
        (b"not compressed", "gzip", 400),
        (b"", "gzip", 400),
        (b"x", "br", 415),
    ],
)
def test_invalid_compression_is_refused(
    relay: Running, otlp: Receiver, content: bytes, encoding: str, status: int
) -> None:
    assert post(relay, "logs", content, content_encoding=encoding).status_code == status
    assert otlp.requests == 0


def test_json_is_forwarded_except_for_metrics(relay: Running, otlp: Receiver) -> None:
    json_type = {"content_type": "application/json; charset=utf-8"}
    refused = post(relay, "metrics", b"{}", **json_type)
    assert refused.status_code == 415
    assert "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf" in refused.json()["message"]
    assert otlp.requests == 0
    # The receiver of this test knows protobuf only.
    otlp.status = 204
    assert post(relay, "logs", b'{"resourceLogs": []}', **json_type).status_code == 204
    assert otlp.headers["content-type"] == "application/json; charset=utf-8"


def test_open_bodies_hold_a_bounded_number_of_bytes(
    relay: Running, recorded: testing.Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twenty bodies of 15 MiB that stop before their last byte, in steps of 1 MiB."""
    monkeypatch.setattr(admission, "MAX_HELD_BYTES", 8 * MIB)
    listening(relay)
    held = relay.platform.relay.held_bytes
    with ExitStack() as opened:
        for _ in range(4):
            connection = opened.enter_context(begin(relay, "/otlp/v1/logs", 15 * MIB))
            connection.sendall(bytes(2 * MIB))
        until(lambda: held() == 8 * MIB)
        response = post(relay, "logs", b"x")
        assert (response.status_code, response.headers["retry-after"]) == (429, "1")
        assert recorded.value(REFUSED, handle="ann", reason="held") == 1
        assert post(relay, "logs", b"", handle="bob").status_code == 200
    until(lambda: held() == 0)
    assert post(relay, "logs", b"").status_code == 200


def test_requests_in_flight_are_bounded(relay: Running, recorded: testing.Recorded) -> None:
    listening(relay)
    with ExitStack() as opened:
        for _ in range(20):
            opened.enter_context(begin(relay, "/otlp/v1/logs", 100))
        until(lambda: recorded.value(REFUSED, handle="ann", reason="requests") == 4)
        assert post(relay, "logs", b"").status_code == 429
        assert post(relay, "logs", b"", handle="bob").status_code == 200


def test_too_fast_container_gets_429_with_retry_after(
    run_platform: Start, otlp: Receiver, recorded: testing.Recorded
) -> None:
    """It may send at least one body of the largest size."""
    otlp.status = 204  # so that the receiver does not decode
    with run_platform(
        TELEMETRY_PLATFORM_RELAY_HOST="localhost", TELEMETRY_PLATFORM_RELAY_RATE="1024"
    ) as running:
        running.platform.store.begin("ann", {})
        for _ in range(2):
            assert post(running, "logs", bytes(12 * MIB)).status_code == 204
        response = post(running, "logs", b"")
    assert response.status_code == 429
    assert 8000 < int(response.headers["retry-after"]) < 9000
    assert "TELEMETRY_PLATFORM_RELAY_RATE" in response.json()["message"]
    assert recorded.value(REFUSED, handle="ann", reason="rate") == 1


def test_body_that_does_not_arrive_gets_408(
    relay: Running, recorded: testing.Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(body, "DEADLINE_S", 0.1)
    listening(relay)
    with begin(relay, "/otlp/v1/logs", 100) as connection:
        assert connection.recv(100).startswith(b"HTTP/1.1 408")
    assert recorded.value(REFUSED, handle="ann", reason="time") == 1


def test_model_call_whose_body_does_not_arrive_gets_408(
    relay: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_calls, "STALL_S", 0.1)
    listening(relay)
    with begin(relay, "/proxy/v1/messages", 100) as connection:
        assert connection.recv(100).startswith(b"HTTP/1.1 408")


def test_client_that_does_not_read_its_answer_is_disconnected(
    run_platform: Start, recorded: testing.Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer has no end, and neither side closes the connection."""
    monkeypatch.setattr(model_calls, "STALL_S", 0.2)
    gone = threading.Event()

    async def stream(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        listener = asyncio.ensure_future(receive())  # done once the relay disconnects
        while not listener.done():
            body = {"type": "http.response.body", "body": bytes(65536), "more_body": True}
            await send(body)
            await asyncio.sleep(0)
        gone.set()

    with (
        served(stream) as url,
        run_platform(TELEMETRY_PLATFORM_RELAY_HOST="localhost", TELEMETRY_PROXY_URL=url) as running,
    ):
        listening(running)
        with begin(running, "/proxy/v1/messages", 0):
            until(lambda: recorded.value("platform_relay_connections") == 1)
            until(lambda: recorded.value("platform_relay_connections") == 0)
            assert gone.wait(20)


def test_client_that_expects_100_continue_gets_it(relay: Running) -> None:
    listening(relay)
    with begin(relay, "/otlp/v1/logs", 1, "expect: 100-continue") as connection:
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"


def test_removed_container_has_no_series_of_the_relay(
    relay: Running, recorded: testing.Recorded
) -> None:
    post(relay, "metrics", gauge(["a", "b", "c", "d"]))
    assert recorded.value(DROPPED, handle="ann") == 1
    relay.platform.store.forget("ann")
    loop: Any = relay.platform._loop
    loop.call_soon_threadsafe(relay.platform.relay.forget_removed)
    until(lambda: recorded.value(DROPPED, handle="ann") is None)
