"""The gateway as an ASGI app."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp

import telemetry
from telemetry.services.gateway.alerts import Alerts
from telemetry.services.gateway.chat import Chat
from telemetry.services.gateway.dispatcher import Dispatcher
from telemetry.services.gateway.history import History
from telemetry.services.gateway.interaction_log import InteractionLog
from telemetry.services.gateway.pages import Pages
from telemetry.services.gateway.plugins import load
from telemetry.services.gateway.proxy_client import ProxyClient
from telemetry.services.gateway.records import Records
from telemetry.services.gateway.settings import Settings
from telemetry.services.guard import Guard
from telemetry.services.http import HTTPError, guarded, reply_http_error
from telemetry.services.login import Access, Login

# Time for running answers to finish when the gateway stops.
GRACE_S = 15.0


def bare_app(settings: Settings) -> Starlette:
    """The gateway without the library's instrumentation.

    Raises:
        TelemetryError: there is no such kernel, or its files can't be read.
    """
    login = Login(
        settings.token,
        "TELEMETRY_GATEWAY_TOKEN",
        page="/",
        title="telemetry",
        sessions=settings.home / "gateway-logins.json",
        # The platform's page shows alerts; it has the admin token, not the gateway's.
        also=(settings.admin_token,),
    )
    webhook = Access(settings.webhook_token, "TELEMETRY_WEBHOOK_TOKEN")
    proxy = ProxyClient(settings)
    kernel = load(settings, proxy)
    log = InteractionLog(
        settings.home / "logs", settings.handle, settings.retention_days, texts=settings.prompts
    )
    history = History(settings.home / "sessions" if settings.prompts else None)
    alerts = Alerts(settings.home / "alerts.json", settings.prometheus_url)
    dispatcher = Dispatcher(
        kernel,
        proxy,
        log,
        history,
        model=settings.model,
        queue_limit=settings.queue_limit,
        concurrency=settings.concurrency,
    )
    chat = Chat(login, dispatcher, history, alerts)
    records = Records(log, alerts)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        await dispatcher.close(GRACE_S)
        await kernel.close()
        await proxy.close()
        log.close()

    async def health(request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    post = ["POST"]
    return Starlette(
        routes=[
            *Pages(login).routes(),
            Route("/api/chat", guarded(chat.post, login.check), methods=post),
            WebSocketRoute("/ws", chat.websocket),
            Route("/api/logs", guarded(records.logs, login.check)),
            Route("/api/alert", guarded(records.alert, webhook.check), methods=post),
            Route("/api/alerts", guarded(records.list_alerts, login.check)),
            Route("/health", health),
        ],
        exception_handlers={HTTPError: reply_http_error},
        lifespan=lifespan,
    )


def guard(app: ASGIApp, settings: Settings) -> Guard:
    """Protect the gateway from other hosts' names and other origins' pages."""
    return Guard(
        app,
        hosts=settings.hosts,
        url=settings.gateway_url,
        origins=settings.origins,
        has_pages=True,
        metrics_path=settings.metrics_path,
        metrics_access=Access(settings.admin_token, "TELEMETRY_ADMIN_TOKEN"),
    )


def create_app(settings: Settings) -> ASGIApp:
    """The gateway, instrumented and guarded.

    Raises:
        TelemetryError: there is no such kernel, or its files can't be read.
    """
    app: ASGIApp = telemetry.instrument(
        bare_app(settings), service_name="gateway", namespace="gateway"
    )
    return guard(app, settings)
