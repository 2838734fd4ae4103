"""What the services share of HTTP: error replies, bounded bodies, the guard, assets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from telemetry.services import http
from telemetry.services.http import HTTPError


def _client(*routes: Route) -> TestClient:
    handlers: Any = {HTTPError: http.reply_http_error}
    return TestClient(Starlette(routes=list(routes), exception_handlers=handlers))


async def _chunks(*sizes: int) -> AsyncIterator[bytes]:
    for size in sizes:
        yield b"x" * size


async def _echo(request: Request) -> Response:
    return JSONResponse(await http.read_json(request))


def test_body_up_to_the_limit_is_read() -> None:
    assert asyncio.run(http.read_body(_chunks(3, 0, 2), 5)) == b"xxxxx"


def test_larger_body_is_refused_after_it_was_read_to_its_end() -> None:
    chunks = _chunks(3, 3, 4)
    with pytest.raises(HTTPError) as refused:
        asyncio.run(http.read_body(chunks, 5))
    assert refused.value.status == 413
    assert refused.value.message == "the body is larger than 5 bytes"
    assert asyncio.run(anext(chunks, None)) is None, "the client can send its last byte"


def test_endless_body_is_cut_off() -> None:
    async def read() -> int:
        passed = 0

        async def endless() -> AsyncIterator[bytes]:
            nonlocal passed
            while True:
                passed += 1 << 20
                yield bytes(1 << 20)

        with pytest.raises(HTTPError):
            await http.read_body(endless(), 5)
        return passed

    assert asyncio.run(read()) == http.DISCARD_BYTES + (1 << 20)


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b"[" * 100_000])
def test_body_that_is_not_json_is_refused(body: bytes) -> None:
    reply = _client(Route("/", _echo, methods=["POST"])).post("/", content=body)
    assert reply.status_code == 400
    assert reply.json()["error"]["message"].startswith("the body is not JSON")


def test_json_with_half_a_surrogate_pair_can_be_written_again() -> None:
    reply = _client(Route("/", _echo, methods=["POST"])).post(
        "/", content=b'["\\ud800 \xe2\x82\xac"]'
    )
    assert reply.json() == ["? €"]


def test_error_reply_has_message_remedy_and_headers() -> None:
    async def refuse(request: Request) -> Response:
        raise HTTPError(503, "the queue is full", "try again", {"retry-after": "5"})

    reply = _client(Route("/", refuse)).get("/")
    assert (reply.status_code, reply.headers["retry-after"]) == (503, "5")
    assert reply.json() == {"error": {"message": "the queue is full", "remedy": "try again"}}


def test_guard_refuses_before_the_handler_runs() -> None:
    handled = []

    async def handle(request: Request) -> Response:
        handled.append(request.url.path)
        return Response()

    def check(request: Request) -> None:
        if request.url.path != "/open":
            raise HTTPError(401, "no token")

    client = _client(Route("/{path}", http.guarded(handle, check)))
    assert client.get("/closed").status_code == 401
    assert client.get("/open").status_code == 200
    assert handled == ["/open"]


def test_only_scripts_and_style_sheets_are_served_with_the_security_headers(tmp_path: Path) -> None:
    for name in ("page.js", "page.css", "index.html", "secrets.env"):
        (tmp_path / name).write_text(name)
    client = _client(http.asset_route("/assets", tmp_path))
    for name in ("page.js", "page.css"):
        reply = client.get(f"/assets/{name}")
        assert reply.text == name
        assert reply.headers.items() >= http.page_headers().items()
    for name in ("index.html", "secrets.env", "missing.js", "..%2fpage.js"):
        assert client.get(f"/assets/{name}").status_code == 404, name
