"""The proxy as an ASGI app."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

import telemetry
from telemetry import metrics
from telemetry.services.guard import Guard
from telemetry.services.login import Access
from telemetry.services.prompts import keep_out_of_logs
from telemetry.services.proxy.genai_metrics import GenAIMetrics
from telemetry.services.proxy.http import admin
from telemetry.services.proxy.http.generate import Generate
from telemetry.services.proxy.http.parts import Proxy
from telemetry.services.proxy.http.passthrough import CountTokens, Elsewhere, Model, Models
from telemetry.services.proxy.ledger.ledger import Ledger
from telemetry.services.proxy.ledger.metrics import LedgerSource
from telemetry.services.proxy.pricing.prices import PriceBook
from telemetry.services.proxy.settings import Settings
from telemetry.services.proxy.upstream.client import Upstreams
from telemetry.services.proxy.wires import WIRES
from telemetry.system.console_log import log_to_console


class _App(Starlette):
    """App that passes a generating call directly to its endpoint.

    This bypasses Starlette's layers, which are slow and not needed: `Generate` answers its errors
    itself.
    """

    def __init__(self, direct: Sequence[Route], routes: Sequence[Route], **others: Any) -> None:
        super().__init__(routes=[*direct, *routes], **others)
        self._direct = {route.path: route for route in direct}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "POST":
            route = self._direct.get(scope["path"])
            if route is not None:
                scope["route"] = route
                await cast("Generate", route.endpoint)(scope, receive, send)
                return
        await super().__call__(scope, receive, send)


def bare_app(settings: Settings) -> Starlette:
    """Make the proxy without the library's instrumentation; ``app.state.proxy`` is its `Proxy`.

    Raises:
        TelemetryError: the ledger or the price file can't be opened.
    """
    metered = GenAIMetrics()
    proxy = Proxy(
        settings=settings,
        ledger=Ledger(settings.ledger_url),
        prices=PriceBook(settings.prices),
        upstreams=Upstreams(settings, metered.error),
        metrics=metered,
    )

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        await asyncio.to_thread(proxy.ledger.start)
        await proxy.upstreams.open()
        metrics.register_source(LedgerSource(proxy.ledger))
        try:
            yield
        finally:
            await proxy.upstreams.close()
            await asyncio.to_thread(proxy.ledger.stop)

    async def health(request: Request) -> Response:
        problem = proxy.ledger.problem
        if problem:
            return JSONResponse({"status": "error", "ledger": problem}, 503)
        return JSONResponse({"status": "ok"})

    app = _App(
        direct=[
            Route(f"/v1{path}", Generate(proxy, wire, endpoint, path), methods=["POST"])
            for wire in WIRES
            for path, endpoint in wire.endpoints.items()
        ],
        routes=[
            *(
                Route(f"/v1{wire.count_path}", CountTokens(proxy, wire), methods=["POST"])
                for wire in WIRES
                if wire.count_path
            ),
            Route("/v1/models", Models(proxy), methods=["GET"]),
            Route("/v1/models/{model:path}", Model(proxy), methods=["GET"]),
            Route("/v1/{path:path}", Elsewhere()),
            *admin.routes(proxy),
            Route("/health", health, methods=["GET"]),
        ],
        exception_handlers=admin.ERROR_HANDLERS,
        lifespan=lifespan,
    )
    app.state.proxy = proxy
    return app


def guard(app: ASGIApp, settings: Settings) -> Guard:
    """Protect the proxy from other hosts' names and other origins' pages."""
    return Guard(
        app,
        hosts=settings.hosts,
        url=settings.proxy_url,
        has_pages=False,
        metrics_path=settings.metrics_path,
        metrics_access=Access(settings.admin_token, "TELEMETRY_ADMIN_TOKEN"),
    )


def create_app(settings: Settings) -> Guard:
    """Make the proxy, instrumented and guarded.

    Raises:
        TelemetryError: the ledger or the price file can't be opened.
    """
    return guard(telemetry.instrument(bare_app(settings), service_name="proxy"), settings)


def from_env() -> ASGIApp:
    """Make the proxy from the environment; each worker of the server calls this."""
    log_to_console()
    settings = Settings.from_env(os.environ)
    if not settings.prompts:
        keep_out_of_logs()
    app = create_app(settings)
    # The price list and the libraries have 90,000 objects, which live as long as the process.
    # Without this, each full garbage collection would traverse them and delay calls by tens of ms.
    gc.collect()
    gc.freeze()
    return app
