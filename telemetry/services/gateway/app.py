"""The gateway's Starlette app: its parts, put together."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

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
from telemetry.services.gateway.http import problem
from telemetry.services.gateway.interaction_log import InteractionLog
from telemetry.services.gateway.kernel import load
from telemetry.services.gateway.pages import Pages
from telemetry.services.gateway.proxy_client import ProxyClient
from telemetry.services.gateway.records import Records
from telemetry.services.gateway.settings import Settings
from telemetry.services.login import Access

# For running answers when the gateway stops.
GRACE_S = 15.0
Handler = Callable[[Request], Awaitable[Response]]


def bare_app(settings: Settings) -> Starlette:
    """The gateway without the library's instrumentation.

    Raises:
        TelemetryError: the kernel can't be had, or its files can't be read.
    """
    access = Access(settings.token, settings.origins, cookie="telemetry_gateway")
    # The platform's page shows alerts; it has the admin's token, not the gateway's.
    admin = Access(settings.admin_token)
    proxy = ProxyClient(settings)
    kernel = load(settings, proxy)
    log = InteractionLog(settings.home / "logs", settings.handle, settings.retention_days)
    history = History(settings.home / "sessions")
    alerts = Alerts(settings.home / "alerts.json")
    dispatcher = Dispatcher(
        kernel,
        proxy,
        log,
        history,
        model=settings.model,
        queue_limit=settings.queue_limit,
        concurrency=settings.concurrency,
    )
    pages = Pages(access)
    chat = Chat(access, dispatcher, history, alerts)
    records = Records(log, alerts, Access(settings.webhook_token))

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        await dispatcher.close(GRACE_S)
        await kernel.close()
        await proxy.close()
        log.close()

    async def health(request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    def guarded(handler: Handler) -> Handler:
        async def checked(request: Request) -> Response:
            if not access.same_origin(request):
                return problem(403, "pages of other sites may not call this")
            if not (access.allowed(request) or admin.allowed(request)):
                return problem(
                    401, "log in at /, or send Authorization: Bearer TELEMETRY_GATEWAY_TOKEN"
                )
            return await handler(request)

        return checked

    post = ["POST"]
    return Starlette(
        routes=[
            Route("/", pages.shell),
            Route("/shell/{name}", pages.asset),
            Route("/login", pages.log_in, methods=post),
            Route("/logout", pages.log_out, methods=post),
            Route("/runbooks", pages.runbooks),
            Route("/api/chat", guarded(chat.post), methods=post),
            WebSocketRoute("/ws", chat.websocket),
            Route("/api/logs", guarded(records.logs)),
            Route("/api/alert", records.alert, methods=post),
            Route("/api/alerts", guarded(records.list_alerts)),
            Route("/health", health),
        ],
        lifespan=lifespan,
    )


def create_app(settings: Settings) -> ASGIApp:
    """The gateway, instrumented.

    Raises:
        TelemetryError: the kernel can't be had, or its files can't be read.
    """
    app: ASGIApp = telemetry.instrument(
        bare_app(settings), service_name="gateway", namespace="gateway"
    )
    return app
