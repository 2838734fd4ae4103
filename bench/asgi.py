"""Measure the CPU that HTTP metrics add to a request, compared with a bare Starlette route.

    nox -s bench -- asgi            (or: python -m bench.asgi [--quick])

Each variant serves the same app in its own process. They take turns round by round, so that a
change in the machine's speed affects all of them. The figures are medians of process CPU time over
the rounds; the ratio to a peer is computed per round. Spans are off in all variants. In ours
everything else is on, with `/metrics` and the namespaced view. Measurements over sockets and of
`/metrics` with 10,000 histogram series sets follow: see `sockets` and `rendering`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

from bench import rendering, sockets

VARIANTS = (
    "bare",
    "telemetry",
    "prometheus_client",
    "starlette_exporter",
    "prometheus_fastapi_instrumentator",
    "opentelemetry_asgi",
)
CASES = ("/items/{id}", "/", "20-chunk stream", "404", "50 routes ahead", "WebSocket echo")


def build(variant: str) -> Any:
    """Build the app under test, instrumented by ``variant``."""
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse, StreamingResponse
    from starlette.routing import Route, WebSocketRoute

    async def item(request: Any) -> Any:
        return PlainTextResponse("hello")

    async def stream(request: Any) -> Any:
        async def chunks() -> Any:
            for _ in range(20):
                yield b"x" * 100

        return StreamingResponse(chunks())

    async def echo(websocket: Any) -> None:
        await websocket.accept()
        await websocket.send_text(await websocket.receive_text())
        await websocket.close()

    app = Starlette(
        routes=[
            Route("/items/{id}", item),
            Route("/", item),
            Route("/stream", stream),
            WebSocketRoute("/ws", echo),
            *(Route(f"/ahead{i}/{{id}}", item) for i in range(50)),
            Route("/last/{id}", item),
        ]
    )
    return _instrumented(variant, app)


def _instrumented(variant: str, app: Any) -> Any:
    if variant == "telemetry":
        import telemetry

        return telemetry.instrument(app, service_name="bench", namespace="gateway")
    if variant == "opentelemetry_asgi":
        from opentelemetry import trace
        from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import InMemoryMetricReader

        return OpenTelemetryMiddleware(
            app,
            meter_provider=MeterProvider([InMemoryMetricReader()]),
            tracer_provider=trace.NoOpTracerProvider(),
        )
    if variant == "starlette_exporter":
        from starlette_exporter import PrometheusMiddleware

        app.add_middleware(PrometheusMiddleware, group_paths=True, filter_unhandled_paths=False)
    elif variant == "prometheus_fastapi_instrumentator":
        from prometheus_fastapi_instrumentator import Instrumentator

        Instrumentator().instrument(app)
    elif variant == "prometheus_client":
        return _by_hand(app)
    return app


def _by_hand(app: Any) -> Any:
    """Wrap the app in a handwritten prometheus_client middleware with cached children."""
    from prometheus_client import CollectorRegistry, Histogram

    duration = Histogram("d", "d", ("method", "route", "status"), registry=CollectorRegistry())
    children: dict[Any, Any] = {}

    async def middleware(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        started = time.perf_counter()
        status = 0

        def observed(message: Any) -> Awaitable[None]:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            sent: Awaitable[None] = send(message)
            return sent

        try:
            await app(scope, receive, observed)
        finally:
            route = scope.get("route")
            key = (scope["method"], id(route), status)
            child = children.get(key)
            if child is None:
                path = getattr(route, "path", "")
                child = children[key] = duration.labels(scope["method"], path, str(status))
            child.observe(time.perf_counter() - started)

    return middleware


async def _call(app: Any, case: str, n: int) -> float:
    """Measure the CPU seconds of ``n`` requests of one case."""
    headers = [
        (b"host", b"127.0.0.1:8000"),
        (b"user-agent", b"bench/1"),
        (b"accept", b"*/*"),
        (b"accept-encoding", b"gzip"),
        (b"connection", b"keep-alive"),
    ]
    path = {
        "/items/{id}": "/items/42",
        "/": "/",
        "20-chunk stream": "/stream",
        "404": "/nothing/here",
        "50 routes ahead": "/last/42",
        "WebSocket echo": "/ws",
    }[case]
    base = {
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": headers,
        "client": ("127.0.0.1", 5000),
        "server": ("127.0.0.1", 8000),
        "state": {},
    }

    if case == "WebSocket echo":
        base |= {"type": "websocket", "scheme": "ws", "subprotocols": []}
        first = ({"type": "websocket.connect"}, {"type": "websocket.receive", "text": "hello"})
    else:
        base |= {"type": "http", "method": "GET", "scheme": "http"}
        first = ({"type": "http.request", "body": b"", "more_body": False},)

    async def send(message: Any) -> None:
        pass

    def receiver() -> Callable[[], Awaitable[Any]]:
        queue = iter(first)

        async def receive() -> Any:
            return next(queue, None) or {"type": "http.disconnect"}

        return receive

    started = time.process_time()
    for _ in range(n):
        await app(dict(base), receiver(), send)
    return time.process_time() - started


def serve(variant: str) -> None:
    """Read rounds from stdin, and print microseconds per request. Runs in a child process."""
    app = build(variant)

    async def main() -> None:
        for line in sys.stdin:
            case, n = json.loads(line)
            await _call(app, case, 10)  # warms the CPU caches: another process ran before
            print((await _call(app, case, n)) / n * 1e6, flush=True)

    asyncio.run(main())


def measure(rounds: int, n: int) -> dict[str, dict[str, list[float]]]:
    """Measure microseconds per request: case -> variant -> one figure per round."""
    # Exports every minute, to compare the request path only. An export of a few series every 5 s
    # takes 0.1 % of a core.
    env = os.environ | {
        "OTEL_METRIC_EXPORT_INTERVAL": "60000",
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_SEMCONV_STABILITY_OPT_IN": "http",
    }
    children = {
        variant: subprocess.Popen(
            [sys.executable, "-m", "bench.asgi", "--serve", variant],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=env,
        )
        for variant in VARIANTS
    }
    results: dict[str, dict[str, list[float]]] = {c: {v: [] for v in VARIANTS} for c in CASES}
    try:
        for round_ in range(rounds + 1):
            for case in CASES:
                for variant, child in children.items():
                    assert child.stdin is not None
                    assert child.stdout is not None
                    count = n // 5 if case in ("20-chunk stream", "WebSocket echo") else n
                    child.stdin.write(json.dumps([case, count]) + "\n")
                    child.stdin.flush()
                    figure = float(child.stdout.readline())
                    if round_:  # the first round warms up
                        results[case][variant].append(figure)
    finally:
        for child in children.values():
            child.kill()
            child.wait()
    return results


def report(results: dict[str, dict[str, list[float]]], rounds: int) -> None:
    """Print the CPU that each variant adds, and the ratio of OpenTelemetry's to ours."""
    print(f"added CPU, us per request over bare Starlette; medians of {rounds} rounds\n")
    print(f"{'':36}" + "".join(f"{case:>18}" for case in CASES))
    for variant in VARIANTS:
        row = f"{variant:36}"
        for case in CASES:
            if variant == "bare":
                row += f"{'(' + format(statistics.median(results[case]['bare']), '.1f') + ')':>18}"
            else:
                row += f"{statistics.median(_added(results[case], variant)):>18.2f}"
        print(row)
    item = results["/items/{id}"]
    ratio = statistics.median(
        theirs / ours
        for theirs, ours in zip(
            _added(item, "opentelemetry_asgi"), _added(item, "telemetry"), strict=True
        )
        if ours > 0
    )
    ours = statistics.median(_added(item, "telemetry"))
    stream = statistics.median(_added(results["20-chunk stream"], "telemetry"))
    print()
    _target("/items/{id}", ours, "us", 2.0)
    _target("20-chunk stream", stream, "us", 6.0)
    _target("opentelemetry-instrumentation-asgi ÷ ours", ratio, "x", 40, at_least=True)


def _added(case: dict[str, list[float]], variant: str) -> list[float]:
    return [figure - bare for figure, bare in zip(case[variant], case["bare"], strict=True)]


def _target(what: str, figure: float, unit: str, target: float, *, at_least: bool = False) -> None:
    met = figure >= target if at_least else figure <= target
    bound = "at least" if at_least else "at most"
    verdict = "met" if met else "MISSED"
    print(f"{what:56}{figure:8.2f} {unit:3} (target: {bound} {target:g}) {verdict}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--serve", choices=VARIANTS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve(args.serve)
        return
    # Many short rounds instead of few long ones, because disturbances come in bursts.
    rounds, n = (31, 250) if args.quick else (151, 500)
    report(measure(rounds, n), rounds)
    ratios = sockets.measure(("bare", "telemetry"), rounds=5 if args.quick else 15)
    ratio = statistics.median(ratios["telemetry"])
    _target("requests over sockets per CPU time, ours ÷ bare", ratio, "", 0.95, at_least=True)
    total, longest_block = rendering.measure(rounds=5 if args.quick else 20)
    _target("rendering 10,000 histogram series sets, CPU", total, "ms", 100)
    _target("longest block of the event loop during rendering", longest_block, "ms", 5)


if __name__ == "__main__":
    main()
