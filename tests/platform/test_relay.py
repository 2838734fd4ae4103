"""The relay: the Collector with a container's own token, the proxy's calls, nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import anthropic
import httpx
import pytest
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.sdk._logs.export import LogRecordExportResult

from telemetry.redaction import Redactor
from telemetry.services.platform.logs.follower import Line, record_of
from telemetry.services.platform.relay import tokens
from tests.fixtures.otlp import Receiver
from tests.fixtures.stack import until
from tests.fixtures.streams import serving
from tests.platform.conftest import Running, Start
from tests.ports import free_port


def listening(running: Running) -> str:
    """Open its relay and return the address."""
    assert running.platform.settings.relay_host == "localhost"
    running.platform._open_relay("192.0.2.1")
    return f"http://127.0.0.1:{running.platform.settings.relay_port}"


def token(running: Running, handle: str) -> dict[str, str]:
    secret = running.platform.settings.otlp_token
    return {"authorization": f"Bearer {tokens.issue(secret, handle)}"}


@pytest.fixture
def relay(run_platform: Start) -> Any:
    """A relay on loopback; ann has a container."""
    with run_platform(TELEMETRY_PLATFORM_RELAY_HOST="localhost") as running:
        running.platform.store.begin("ann", {"image": "x"})
        yield running


@pytest.mark.parametrize("compression", [Compression.NoCompression, Compression.Gzip])
def test_exporter_with_its_token_reaches_the_collector(
    relay: Running, otlp: Receiver, compression: Compression
) -> None:
    """Compressed or not, the bytes are forwarded unchanged."""
    endpoint = f"{listening(relay)}/otlp/v1/logs"
    exporter = OTLPLogExporter(endpoint, headers=token(relay, "ann"), compression=compression)
    record = record_of(Line("ann", "c1", "2026-01-01T00:00:00Z", "ERROR hello"), Redactor())
    assert exporter.export([record]) is LogRecordExportResult.SUCCESS
    exporter.shutdown()  # type: ignore[no-untyped-call]
    (log,) = otlp.logs
    assert (log.body, log.resource["handle"], log.severity) == ("ERROR hello", "ann", "error")


def test_collector_gets_the_tokens_handle_not_the_claimed_one(
    relay: Running, otlp: Receiver
) -> None:
    claims = {**token(relay, "ann"), "x-telemetry-handle": "bob", "X-Telemetry-Handle": "eve"}
    assert httpx.post(f"{listening(relay)}/otlp/v1/logs", headers=claims).status_code == 200
    assert otlp.headers["x-telemetry-handle"] == "ann"


def test_request_without_a_valid_token_gets_401(relay: Running, otlp: Receiver) -> None:
    """No token, another's signature, the Collector's own token, a removed container's token."""
    base = listening(relay)
    platform = relay.platform
    signature = tokens.issue(platform.settings.otlp_token, "bob").partition("~")[2]
    for headers in (
        {},
        {"authorization": "Bearer"},
        {"authorization": f"Bearer ann~{signature}"},
        {"authorization": f"Bearer {platform.settings.otlp_token}"},
        {"authorization": token(relay, "ann")["authorization"].replace("Bearer", "Basic")},
        token(relay, "bob"),
        {"authorization": b"Bearer ann~\xff"},
        {"authorization": b"Bearer \xff~" + signature.encode()},
    ):
        assert httpx.post(f"{base}/otlp/v1/logs", headers=headers).status_code == 401
    platform.store.change("ann", phase="removing")
    assert httpx.post(f"{base}/otlp/v1/logs", headers=token(relay, "ann")).status_code == 401
    assert otlp.requests == 0


def test_large_body_gets_413(relay: Running, otlp: Receiver) -> None:
    body = bytes((16 << 20) + 1)
    response = httpx.post(
        f"{listening(relay)}/otlp/v1/metrics", content=body, headers=token(relay, "ann")
    )
    assert response.status_code == 413
    assert otlp.requests == 0


def test_unavailable_collector_gets_503_with_retry_after(run_platform: Start) -> None:
    """OTLP exporters keep their batch on 503 with retry-after."""
    nobody = f"http://127.0.0.1:{free_port()}"
    with run_platform(
        TELEMETRY_PLATFORM_RELAY_HOST="localhost", OTEL_EXPORTER_OTLP_ENDPOINT=nobody
    ) as running:
        running.platform.store.begin("ann", {})
        response = httpx.post(f"{listening(running)}/otlp/v1/logs", headers=token(running, "ann"))
    assert (response.status_code, response.headers["retry-after"]) == (503, "5")


def test_providers_sdk_streams_through_the_relay(relay: Running) -> None:
    base = listening(relay)
    key = relay.platform.keys.create("ann")
    with (
        anthropic.Anthropic(base_url=f"{base}/proxy", api_key=key.secret) as client,
        client.messages.stream(
            model="claude-sonnet-4-6",
            max_tokens=100,
            messages=[{"role": "user", "content": "Hello out there"}],
        ) as stream,
    ):
        text = "".join(stream.text_stream)
    assert text
    # A call is settled after its last byte, so its caller may be here first.
    assert until(lambda: relay.platform.keys.costs_today().get("ann")) > 0


@contextmanager
def breaking(answer: bytes) -> Iterator[str]:
    """A simulated proxy that closes each connection after ``answer``; its address."""

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()

    with serving(hang_up) as url:
        yield url


def test_proxy_that_closes_before_answering_gets_503(run_platform: Start) -> None:
    """Its client retries, as for a proxy that is down."""
    with (
        breaking(b"") as url,
        run_platform(TELEMETRY_PLATFORM_RELAY_HOST="localhost", TELEMETRY_PROXY_URL=url) as running,
    ):
        response = httpx.post(f"{listening(running)}/proxy/v1/messages", json={})
    assert (response.status_code, response.headers["retry-after"]) == (503, "5")
    assert "the proxy does not answer" in response.json()["error"]["message"]


def test_interrupted_answer_breaks_the_connection(run_platform: Start) -> None:
    half = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n"
    with (
        breaking(half) as url,
        run_platform(TELEMETRY_PLATFORM_RELAY_HOST="localhost", TELEMETRY_PROXY_URL=url) as running,
        pytest.raises(httpx.RemoteProtocolError),
    ):
        httpx.post(f"{listening(running)}/proxy/v1/messages", json={})


PRIVATE = ["/", "/admin", "/proxy/api/keys", "/proxy/api/costs", "/proxy/health"]
PRIVATE += ["/proxy//api/keys", "/proxy/v1/../api/keys"]
PRIVATE += ["/proxy/v1/%2e%2e/api/keys", "/proxy/v1/..%2fapi/keys"]


def test_only_model_calls_are_forwarded(relay: Running) -> None:
    """Not even with the admin token. Raw requests, since clients normalise paths."""

    async def raw(path: str) -> bytes:
        port = relay.platform.settings.relay_port
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(
            f"GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n"
            "authorization: Bearer admin-secret\r\n\r\n".encode()
        )
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        return answer

    listening(relay)
    for path in PRIVATE:
        assert asyncio.run(raw(path)).startswith(b"HTTP/1.1 404"), path


def test_address_of_another_machine_is_refused(run_platform: Start) -> None:
    from telemetry.services.http import HTTPError

    with run_platform() as running, pytest.raises(HTTPError) as caught:
        running.platform._open_relay("192.0.2.1")
    assert "TELEMETRY_PLATFORM_RELAY_HOST" in caught.value.remedy
