"""Measurements of the middleware: durations, sizes, methods, active requests."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

import telemetry
from telemetry.asgi import middleware
from telemetry.metrics.points import HistogramValue
from telemetry.testing import Recorded
from tests.asgi.shop import hello, shop
from tests.fixtures.asgi import DURATION, call, requests

pytestmark = pytest.mark.usefixtures("recorded")


class Clock:
    """A clock that only the test advances."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(middleware, "perf_counter", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def spent(recorded: Recorded) -> float:
    """Sum up the seconds of all requests."""
    return sum(
        p.value.sum
        for p in recorded.points()
        if p.metric.prometheus == DURATION and isinstance(p.value, HistogramValue)
    )


async def test_duration_ends_at_last_body_message(recorded: Recorded, clock: Clock) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        clock.now += 0.25
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        clock.now += 0.5
        await send({"type": "http.response.body", "body": b"b"})
        clock.now += 100  # a background task

    await call(telemetry.instrument(app), "/")
    assert spent(recorded) == 0.75
    (point,) = (p for p in recorded.points() if p.metric.prometheus == DURATION)
    assert isinstance(point.value, HistogramValue)
    bounds = [*point.metric.buckets, float("inf")]
    assert [b for b, n in zip(bounds, point.value.buckets, strict=True) if n] == [0.75]


@pytest.mark.parametrize(("seconds", "bound"), [(0.0, 0.005), (0.005, 0.005), (0.0051, 0.01)])
async def test_bucket_bounds_are_inclusive(
    recorded: Recorded, clock: Clock, seconds: float, bound: float
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        clock.now = 0.0 + seconds
        await send({"type": "http.response.body"})

    clock.now = 0.0
    await call(telemetry.instrument(app), "/")
    (point,) = (p for p in recorded.points() if p.metric.prometheus == DURATION)
    assert isinstance(point.value, HistogramValue)
    found = dict(zip(point.metric.buckets, point.value.buckets, strict=False))
    assert [b for b, n in found.items() if n] == [bound]


async def test_duration_without_last_body_message_ends_when_app_returns(
    recorded: Recorded, clock: Clock
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        clock.now += 2
        raise LookupError

    with pytest.raises(LookupError):
        await call(telemetry.instrument(app), "/")
    assert spent(recorded) == 2


async def test_request_is_active_until_app_returns_or_raises(recorded: Recorded) -> None:
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(recorded.value("http_server_active_requests", http_request_method="GET"))
        raise LookupError

    with pytest.raises(LookupError):
        await call(telemetry.instrument(app), "/")
    assert seen == [1]
    assert recorded.value("http_server_active_requests") == 0


async def test_concurrent_requests_have_their_own_sizes(recorded: Recorded) -> None:
    """Two concurrent requests; the second one ends first."""
    gates = [asyncio.Event(), asyncio.Event()]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        number = int(scope["path"][1:])
        body = (await receive())["body"]
        await gates[number].wait()
        await send({"type": "http.response.start", "status": 200 + number})
        await send({"type": "http.response.body", "body": body * 2})

    wrapped = telemetry.instrument(app)
    first = asyncio.create_task(call(wrapped, "/0", "POST", body=b"x" * 1000))
    second = asyncio.create_task(call(wrapped, "/1", "POST", body=b"x" * 7))
    await asyncio.sleep(0)
    gates[1].set()
    await second
    gates[0].set()
    await first
    sums = {
        (p.metric.name, dict(p.attributes)["http.response.status_code"]): p.value.sum
        for p in recorded.points()
        if isinstance(p.value, HistogramValue) and p.metric.unit == "By"
    }
    assert sums == {
        ("http.server.request.body.size", "200"): 1000,
        ("http.server.request.body.size", "201"): 7,
        ("http.server.response.body.size", "200"): 2000,
        ("http.server.response.body.size", "201"): 14,
    }


async def test_request_without_body_records_no_request_size(recorded: Recorded) -> None:
    await call(shop(), "/items/1")
    assert recorded.value("http_server_request_body_size_bytes") is None
    assert recorded.value("http_server_response_body_size_bytes") == 1


async def test_size_of_file_sent_by_server_is_recorded(recorded: Recorded, tmp_path: Path) -> None:
    file = tmp_path / "film"
    file.write_bytes(b"x" * 300)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.pathsend", "path": str(file)})

    await call(telemetry.instrument(app), "/")
    assert requests() == {("", "200", ""): 1}
    (size,) = (
        p.value.sum
        for p in recorded.points()
        if isinstance(p.value, HistogramValue) and "response.body" in p.metric.name
    )
    assert size == 300


@pytest.mark.parametrize(
    ("method", "known"), [("QUERY", "QUERY"), ("PROPFIND", "_OTHER"), ("get", "_OTHER")]
)
async def test_unknown_method_is_recorded_as_other(
    recorded: Recorded, method: str, known: str
) -> None:
    await call(shop(), "/none", method)
    assert recorded.value(DURATION, http_request_method=known) == 1
    assert recorded.value("http_server_active_requests", http_request_method=known) == 0


async def test_cache_of_unknown_methods_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(middleware, "_CACHE_LIMIT", 10)
    app = shop()
    for number in range(100):
        await call(app, "/none", f"X{number}")
    assert sum(len(methods) for methods in app._methods.values()) <= 10
    assert requests() == {("", "404", ""): 100}


async def test_namespace_shows_same_requests_under_its_names(recorded: Recorded) -> None:
    app = telemetry.instrument(Starlette(routes=[Route("/items/{id}", hello)]), namespace="gateway")
    await call(app, "/items/1")
    await call(app, "/none")
    assert (
        recorded.value(
            "gateway_http_requests_total", method="GET", path="/items/{id}", status="200"
        )
        == 1
    )
    assert recorded.value("gateway_http_requests_total", path="unmatched", status="404") == 1
    assert recorded.value("gateway_http_request_duration_seconds", path="/items/{id}") == 1


async def test_concurrent_requests_are_all_counted() -> None:
    async def slow(request: Request) -> Response:
        await asyncio.sleep(0)
        return PlainTextResponse("x")

    app = telemetry.instrument(Starlette(routes=[Route("/{n}", slow)]))
    await asyncio.gather(*(call(app, f"/{n}") for n in range(500)))
    assert requests() == {("/{n}", "200", ""): 500}
