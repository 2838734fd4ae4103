"""What the middleware counts, and that it does nothing else."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route

import telemetry
from telemetry import asgi
from telemetry.metrics.points import HistogramValue
from telemetry.testing import Recorded
from tests.fixtures.asgi import DURATION, call, exchange, requests, scope

pytestmark = pytest.mark.usefixtures("recorded")


async def hello(request: Request) -> Response:
    return PlainTextResponse("hello")


async def broken(request: Request) -> Response:
    raise LookupError("no such thing")


async def refusing(request: Request) -> Response:
    return PlainTextResponse("later", status_code=503)


async def torn(request: Request) -> Response:
    async def chunks() -> Any:
        yield b"first"
        raise ValueError("the rest is gone")

    return StreamingResponse(chunks())


def shop() -> Any:
    return telemetry.instrument(
        Starlette(
            routes=[
                Route("/items/{id:int}", hello),
                Route("/broken", broken),
                Route("/refusing", refusing),
                Route("/torn", torn),
            ]
        )
    )


class Clock:
    """A clock that stands still unless moved."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(asgi, "perf_counter", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def spent(recorded: Recorded) -> float:
    """Seconds of all requests together."""
    return sum(
        p.value.sum
        for p in recorded.points()
        if p.metric.prometheus == DURATION and isinstance(p.value, HistogramValue)
    )


# --- outcomes -------------------------------------------------------------------------------


async def test_an_answer_is_counted_under_its_template() -> None:
    app = shop()
    for number in (1, 2, 3):
        answer = await call(app, f"/items/{number}")
        assert (answer.status, answer.body) == (200, b"hello")
    assert requests() == {("/items/{id}", "200", ""): 3}


async def test_unmatched_paths_are_one_group_never_raw() -> None:
    app = shop()
    for number in range(200):
        await call(app, f"/wp-admin/{number}.php")
    assert requests() == {("", "404", ""): 200}


async def test_a_method_the_route_does_not_take_keeps_its_template() -> None:
    await call(shop(), "/items/1", "DELETE")
    assert requests() == {("/items/{id}", "405", ""): 1}


async def test_an_unhandled_exception_is_a_500_with_its_type_and_raised_on() -> None:
    with pytest.raises(LookupError, match="no such thing"):
        await call(shop(), "/broken")
    assert requests() == {("/broken", "500", "LookupError"): 1}


async def test_an_exception_no_framework_answers_is_a_500_too() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("at once")

    with pytest.raises(RuntimeError, match="at once"):
        await call(telemetry.instrument(app), "/")
    assert requests() == {("", "500", "RuntimeError"): 1}


async def test_a_5xx_without_an_exception_has_its_code_as_error_type() -> None:
    await call(shop(), "/refusing")
    assert requests() == {("/refusing", "503", "503"): 1}


async def test_a_failure_in_mid_stream_is_told_from_an_answer() -> None:
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
async def test_an_app_that_returns_before_its_answer_is_whole(
    messages: list[dict[str, Any]], status: str
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in messages:
            await send(message)

    await call(telemetry.instrument(app), "/")
    assert requests() == {("", status, "incomplete_response"): 1}


async def test_a_client_that_leaves_a_stream_is_told_from_an_answer() -> None:
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


async def test_a_client_that_leaves_before_any_answer(recorded: Recorded) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    served = exchange()
    served.left.set()
    wrapped = telemetry.instrument(app, namespace="shop")
    await wrapped(scope("/"), served.receive, served.send)
    assert requests() == {("", "", "client_disconnected"): 1}
    assert recorded.value("shop_http_requests_total", status="499") == 1


async def test_a_client_that_leaves_while_it_uploads() -> None:
    async def read(request: Request) -> Response:
        await request.body()
        return PlainTextResponse("never")

    app = telemetry.instrument(Starlette(routes=[Route("/read", read, methods=["POST"])]))
    served = exchange(b"half", b"never sent")
    served.messages.pop()
    served.left.set()
    with pytest.raises(ClientDisconnect):
        await app(scope("/read", "POST"), served.receive, served.send)
    assert served.status == 500, "what Starlette tells nobody"
    assert requests() == {("/read", "", "client_disconnected"): 1}


async def test_a_client_that_leaves_once_it_has_everything_was_answered() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body"})
        assert (await receive())["type"] == "http.request"
        assert (await receive())["type"] == "http.disconnect"

    await call(telemetry.instrument(app), "/")
    assert requests() == {("", "200", ""): 1}


async def test_a_back_end_that_resets_its_connection_is_not_the_client() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await call(telemetry.instrument(app), "/")
    assert requests() == {("", "500", "ConnectionResetError"): 1}


async def test_a_cancelled_request_is_no_5xx() -> None:
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


async def test_what_is_cancelled_after_the_answer_was_answered() -> None:
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


async def test_a_background_task_that_fails_does_not_make_a_good_answer_bad() -> None:
    async def failing() -> None:
        raise OSError("no disk")

    async def endpoint(request: Request) -> Response:
        return PlainTextResponse("ok", background=BackgroundTask(failing))

    app = telemetry.instrument(Starlette(routes=[Route("/", endpoint)]))
    with pytest.raises(OSError, match="no disk"):
        await call(app, "/")
    assert requests() == {("/", "200", ""): 1}


# --- what is measured -------------------------------------------------------------------------


async def test_the_clock_stops_at_the_last_body_message(recorded: Recorded, clock: Clock) -> None:
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
async def test_bounds_are_inclusive(
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


async def test_a_request_without_an_end_counts_until_the_app_returns(
    recorded: Recorded, clock: Clock
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        clock.now += 2
        raise LookupError

    with pytest.raises(LookupError):
        await call(telemetry.instrument(app), "/")
    assert spent(recorded) == 2


async def test_requests_are_active_while_they_are(recorded: Recorded) -> None:
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(recorded.value("http_server_active_requests", http_request_method="GET"))
        raise LookupError

    with pytest.raises(LookupError):
        await call(telemetry.instrument(app), "/")
    assert seen == [1]
    assert recorded.value("http_server_active_requests") == 0


async def test_sizes_are_each_request_s_own(recorded: Recorded) -> None:
    """Open at once, and ended the other way round."""
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


async def test_a_request_body_nobody_sent_is_no_observation(recorded: Recorded) -> None:
    await call(shop(), "/items/1")
    assert recorded.value("http_server_request_body_size_bytes") is None
    assert recorded.value("http_server_response_body_size_bytes") == 1


async def test_a_file_that_the_server_sends_counts(recorded: Recorded, tmp_path: Path) -> None:
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
async def test_methods_are_the_known_ones(recorded: Recorded, method: str, known: str) -> None:
    await call(shop(), "/none", method)
    assert recorded.value(DURATION, http_request_method=known) == 1
    assert recorded.value("http_server_active_requests", http_request_method=known) == 0


async def test_made_up_methods_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asgi, "_CACHE_LIMIT", 10)
    app = shop()
    for number in range(100):
        await call(app, "/none", f"X{number}")
    assert sum(len(methods) for methods in app._methods.values()) <= 10
    assert requests() == {("", "404", ""): 100}


async def test_a_namespace_shows_the_same_requests_by_its_own_names(recorded: Recorded) -> None:
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


async def test_many_requests_at_once_are_all_counted() -> None:
    async def slow(request: Request) -> Response:
        await asyncio.sleep(0)
        return PlainTextResponse("x")

    app = telemetry.instrument(Starlette(routes=[Route("/{n}", slow)]))
    await asyncio.gather(*(call(app, f"/{n}") for n in range(500)))
    assert requests() == {("/{n}", "200", ""): 500}


# --- what it leaves alone ---------------------------------------------------------------------


async def test_instrumented_twice_is_counted_once() -> None:
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


async def test_an_instrumented_app_mounted_in_another_is_counted_once() -> None:
    inner = telemetry.instrument(Starlette(routes=[Route("/items/{id}", hello)]))
    app = telemetry.instrument(Starlette(routes=[Mount("/api", inner)]))
    await call(app, "/api/items/1")
    assert requests() == {("/api/items/{id}", "200", ""): 1}


async def test_a_disabled_sdk_leaves_the_app_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    app = Starlette()
    assert telemetry.instrument(app) is app


async def test_the_app_s_own_attributes_stay_within_reach() -> None:
    app = shop()
    app.add_route("/late", hello)
    assert (await call(app, "/late")).status == 200
    with pytest.raises(AttributeError):
        _ = app.no_such_thing


async def test_scopes_it_does_not_know_pass() -> None:
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])

    await telemetry.instrument(app)({"type": "mqtt"}, None, None)
    assert seen == ["mqtt"]


async def test_the_caller_s_trace_is_current_for_the_request_and_no_longer() -> None:
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


# --- it never breaks a request ----------------------------------------------------------------


async def test_a_route_that_fails_when_asked_for_its_path(recorded: Recorded) -> None:
    class Odd:
        @property
        def path_format(self) -> str:
            raise RuntimeError("not a path")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["route"] = Odd()
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"all the same"})

    answer = await call(telemetry.instrument(app), "/")
    assert answer.body == b"all the same"
    assert recorded.value("telemetry_dropped_total", reason="not_counted") == 1


async def test_a_disk_that_is_full(recorded: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any) -> Any:
        raise OSError(28, "No space left on device")

    from telemetry import metrics

    app = shop()
    monkeypatch.setattr(metrics.current().storage, "allocate", full)
    assert (await call(app, "/items/1")).status == 200
    assert requests() == {("/items/{id}", "200", ""): 1}


async def test_a_scope_with_only_what_asgi_demands() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body"})

    wrapped = telemetry.instrument(app)
    for _ in itertools.repeat(None, 2):
        bare = {"type": "http", "method": "GET", "path": "/", "headers": []}
        served = exchange()
        await wrapped(bare, served.receive, served.send)
    assert requests() == {("", "200", ""): 2}


# --- /metrics and lifespan --------------------------------------------------------------------


async def test_metrics_answer_and_are_not_counted() -> None:
    app = shop()
    await call(app, "/items/1")
    answer = await call(app, "/metrics")
    assert answer.status == 200
    assert b'http_route="/items/{id}"' in answer.body
    assert requests() == {("/items/{id}", "200", ""): 1}


async def test_metrics_under_a_root_path_and_in_an_inner_app() -> None:
    app = shop()
    assert (await call(app, "/shop/metrics", root_path="/shop")).status == 200
    assert (await call(app, "/other/metrics")).status == 404
    inner = telemetry.instrument(Starlette(), metrics_path="/inner-metrics")
    outer = telemetry.instrument(BaseHTTPMiddleware(inner, dispatch=lambda r, n: n(r)))
    assert (await call(outer, "/inner-metrics")).status == 200


@pytest.mark.parametrize("given", ["argument", "environment"])
async def test_metrics_can_be_off_or_elsewhere(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    app = Starlette(routes=[Route("/metrics", hello)])
    if given == "environment":
        monkeypatch.setenv("TELEMETRY_METRICS_PATH", "off")
        wrapped = telemetry.instrument(app)
    else:
        wrapped = telemetry.instrument(app, metrics_path="")
    assert (await call(wrapped, "/metrics")).body == b"hello"
    elsewhere = telemetry.instrument(Starlette(), metrics_path="/internal/numbers")
    assert (await call(elsewhere, "/internal/numbers")).status == 200


async def test_metrics_take_get_and_head_only() -> None:
    app = shop()
    await call(app, "/items/1")
    assert (await call(app, "/metrics", "POST")).status == 405
    head = await call(app, "/metrics", "HEAD")
    assert (head.status, head.body) == (200, b"")
    assert int(head.headers[b"content-length"]) > 0


async def test_the_app_s_lifespan_is_its_own() -> None:
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


async def test_an_app_without_a_lifespan_may_refuse_it() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"

    with pytest.raises(AssertionError):
        await telemetry.instrument(app)({"type": "lifespan"}, None, None)
