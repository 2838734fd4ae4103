"""The gateway's Starlette app."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import (
    FileResponse,
    HTMLResponse,
    JSONResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket, WebSocketDisconnect

import telemetry
from telemetry import catalog, metrics
from telemetry.services.access import Access
from telemetry.services.gateway.alerts import Alerts
from telemetry.services.gateway.dispatcher import Dispatch, Dispatcher, QueueFull
from telemetry.services.gateway.interaction_log import InteractionLog
from telemetry.services.gateway.kernel import load
from telemetry.services.gateway.proxy_client import ProxyClient
from telemetry.services.gateway.settings import Settings

SHELL = Path(__file__).parent / "shell"
BODY_LIMIT = 1 << 20
PROMPT_LIMIT = 100_000
RETRY_AFTER_S = 5
GRACE_S = 20.0
HEADERS = {
    "content-security-policy": "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; "
    "base-uri 'none'; form-action 'self'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}
_SESSION = re.compile(r"[A-Za-z0-9_-]{1,64}")
_log = logging.getLogger(__name__)
Handler = Callable[[Request], Awaitable[Response]]


class Gateway:
    """The parts of one gateway, and what its routes do with them.

    Args:
        settings: what it was told.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.access = Access(settings.token, settings.origins, "telemetry_gateway")
        self.webhook = Access(settings.webhook_token)
        self.log = InteractionLog(settings.home / "logs", settings.handle, settings.retention_days)
        self.alerts = Alerts(settings.home / "alerts.json")
        self.proxy = ProxyClient(settings)
        self.kernel = load(settings.kernel, settings)
        self.dispatcher = Dispatcher(
            self.kernel,
            self.proxy,
            self.log,
            model=settings.model,
            queue_limit=settings.queue_limit,
            concurrency=settings.concurrency,
        )
        self._shells = metrics.gauge(catalog.GATEWAY_WS_CONNECTIONS_ACTIVE)
        self._shells.set(0)

    async def close(self) -> None:
        await self.dispatcher.close(GRACE_S)
        await self.kernel.close()
        await self.proxy.close()
        self.log.close()

    # --- pages -----------------------------------------------------------------------------

    async def shell(self, request: Request) -> Response:
        page = "index.html" if self.access.allowed(request) else "login.html"
        return FileResponse(SHELL / page, headers=HEADERS)

    async def login(self, request: Request) -> Response:
        if not self.access.same_origin(request):
            return _error(403, "this log-in came from another site")
        body = (await _body(request, 4096)).decode(errors="replace")
        from urllib.parse import parse_qs

        given = parse_qs(body).get("token", [""])[0].strip()
        if not self.access.is_token(given):
            await asyncio.sleep(0.5)  # guessing should be slow
            return RedirectResponse("/?wrong", 303)
        response = RedirectResponse("/", 303)
        self.access.log_in(response, secure=request.url.scheme == "https")
        return response

    async def runbooks(self, request: Request) -> Response:
        from telemetry.alerting import runbooks

        style = {
            **HEADERS,
            "content-security-policy": "default-src 'self'; style-src 'unsafe-inline'",
        }
        return HTMLResponse(runbooks.page(), headers=style)

    # --- chat ------------------------------------------------------------------------------

    async def chat(self, request: Request) -> Response:
        """Server-sent events: delta, tool, done."""
        try:
            body = json.loads(await _body(request, BODY_LIMIT))
            prompt, session = body["message"], body.get("sessionId") or secrets.token_hex(8)
        except _TooLarge:
            return _error(413, f"the body is larger than {BODY_LIMIT} bytes")
        except (ValueError, KeyError, TypeError):
            return _error(400, 'the body is not JSON like {"message": "…", "sessionId": "…"}')
        wrong = _wrong(prompt, session)
        if wrong:
            return _error(400, wrong)
        dispatch = Dispatch(prompt, "api", session)
        try:
            self.dispatcher.submit(dispatch)
        except QueueFull:
            return _error(
                503, "too many messages are waiting; try again", {"retry-after": str(RETRY_AFTER_S)}
            )
        return StreamingResponse(
            self._server_sent(dispatch),
            media_type="text/event-stream",
            headers={"cache-control": "no-store", "x-trace-id": dispatch.trace_id},
        )

    async def _server_sent(self, dispatch: Dispatch) -> AsyncIterator[str]:
        finished = False
        try:
            async for event in dispatch.stream():
                finished = event["type"] == "done"
                yield f"event: {event['type']}\ndata: {json.dumps(event)}\n\n"
        finally:
            if not finished:  # the client went: nobody reads the answer any more
                self.dispatcher.cancel(dispatch)

    async def websocket(self, websocket: WebSocket) -> None:
        """The shell's connection: messages in, events and alerts out."""
        session = websocket.query_params.get("session", "")
        if not self.access.same_origin(websocket) or not self.access.allowed(websocket):
            await websocket.close(4401, "log in first")
            return
        if not _SESSION.fullmatch(session):
            await websocket.close(4400, "which session?")
            return
        await websocket.accept()
        self._shells.add(1)
        out: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        stop = self.alerts.listen(lambda alert: out.put_nowait({"type": "alert", "alert": alert}))
        out.put_nowait({"type": "history", "entries": self.dispatcher.history(session)})
        out.put_nowait({"type": "alerts", "alerts": self.alerts.firing()})
        tasks = {asyncio.create_task(self._send(websocket, out))}
        for dispatch in self.dispatcher.active(session):  # begun before this connection
            out.put_nowait({"type": "resume", "id": dispatch.number, "text": dispatch.prompt})
            tasks.add(asyncio.create_task(_forward(dispatch, out)))
        try:
            while True:
                message = await websocket.receive_json()
                task = self._take(message, session, out)
                if task is not None:
                    tasks.add(task)
                    task.add_done_callback(tasks.discard)
        except (WebSocketDisconnect, ValueError, KeyError, TypeError, AttributeError) as error:
            if not isinstance(error, WebSocketDisconnect):
                with contextlib.suppress(RuntimeError):
                    await websocket.close(1007, "not a message of the shell's")
        finally:
            self._shells.add(-1)
            stop()
            # Answers go on without a shell: it finds them in the history when it is back.
            for task in tuple(tasks):
                task.cancel()

    def _take(
        self, message: dict[str, Any], session: str, out: asyncio.Queue[dict[str, Any]]
    ) -> asyncio.Task[None] | None:
        if message["type"] == "cancel":
            for dispatch in self.dispatcher.active(session):
                self.dispatcher.cancel(dispatch)
            return None
        if message["type"] != "message":
            return None
        number, prompt = message.get("id"), message.get("text")
        wrong = _wrong(prompt, session)
        if wrong:
            out.put_nowait(_failed(number, wrong))
            return None
        dispatch = Dispatch(str(prompt), "web", session, number=str(number))
        try:
            self.dispatcher.submit(dispatch)
        except QueueFull:
            out.put_nowait(_failed(number, "too many messages are waiting; try again", "rejected"))
            return None
        return asyncio.create_task(_forward(dispatch, out))

    async def _send(self, websocket: WebSocket, out: asyncio.Queue[dict[str, Any]]) -> None:
        with contextlib.suppress(WebSocketDisconnect, RuntimeError):
            while True:
                await websocket.send_json(await out.get())

    # --- logs and alerts -------------------------------------------------------------------

    async def logs(self, request: Request) -> Response:
        """NDJSON: the lines as they were written; after=N skips the first N."""
        query = request.query_params
        date = query.get("date", "")
        if not date:
            from datetime import datetime

            date = f"{datetime.now(UTC):%Y-%m-%d}"
        try:
            limit, after = int(query.get("limit", 1000)), int(query.get("after", 0))
        except ValueError:
            limit = after = -1
        if not re.fullmatch(r"\d{4}-\d\d-\d\d", date) or limit < 1 or after < 0:
            return _error(400, "wanted: date=YYYY-MM-DD, limit of 1 or more, after of 0 or more")
        lines = self.log.read(date, after, limit)
        try:
            first = await anext(lines, b"")
        except FileNotFoundError:
            return _error(404, f"nothing was logged on {date} (UTC)")

        async def body() -> AsyncIterator[bytes]:
            if first:
                yield first
            async for line in lines:
                yield line

        return StreamingResponse(body(), media_type="application/x-ndjson")

    async def alert(self, request: Request) -> Response:
        """A webhook of Grafana's or Alertmanager's."""
        if not self.webhook.allowed(request):
            return _error(401, "wanted: authorization: Bearer and TELEMETRY_WEBHOOK_TOKEN")
        try:
            received = self.alerts.receive(json.loads(await _body(request, BODY_LIMIT)))
        except _TooLarge:
            return _error(413, f"the body is larger than {BODY_LIMIT} bytes")
        except ValueError as error:
            return _error(400, f"not an alert webhook's body: {error}")
        for alert in received:
            _log.warning("alert %s: %s", alert["status"], alert["summary"])
        return JSONResponse({"received": len(received)})

    async def list_alerts(self, request: Request) -> Response:
        return JSONResponse({"alerts": self.alerts.firing()})

    async def health(self, request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    # --- routes ----------------------------------------------------------------------------

    def routes(self) -> list[Any]:
        return [
            Route("/", self.shell),
            Route("/login", self.login, methods=["POST"]),
            Route("/runbooks", self.runbooks),
            Route("/api/chat", self._guarded(self.chat), methods=["POST"]),
            Route("/api/logs", self._guarded(self.logs)),
            Route("/api/alert", self.alert, methods=["POST"]),
            Route("/api/alerts", self._guarded(self.list_alerts)),
            Route("/health", self.health),
            WebSocketRoute("/ws", self.websocket),
            Mount("/shell", StaticFiles(directory=SHELL)),
        ]

    def _guarded(self, handler: Handler) -> Handler:
        async def guarded(request: Request) -> Response:
            if not self.access.same_origin(request):
                return _error(403, "pages of other sites may not call this")
            if not (self.access.allowed(request) or self._is_admin(request)):
                return _error(401, "wanted: authorization: Bearer and TELEMETRY_GATEWAY_TOKEN")
            return await handler(request)

        return guarded

    def _is_admin(self, request: Request) -> bool:
        # The platform's page shows the alerts; it has the admin's token, not this one.
        return Access(self.settings.admin_token).allowed(request)


def create_app(settings: Settings) -> Any:
    """The gateway as an ASGI app, instrumented."""
    gateway = Gateway(settings)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        await gateway.close()

    app = Starlette(routes=gateway.routes(), lifespan=lifespan)
    return telemetry.instrument(app, service_name="gateway", namespace="gateway")


async def _forward(dispatch: Dispatch, out: asyncio.Queue[dict[str, Any]]) -> None:
    async for event in dispatch.stream():
        out.put_nowait({**event, "id": dispatch.number})


class _TooLarge(Exception):
    pass


async def _body(request: Request, limit: int) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise _TooLarge
    return bytes(body)


def _wrong(prompt: Any, session: Any) -> str:
    if not isinstance(prompt, str) or not prompt.strip():
        return "the message is empty"
    if len(prompt) > PROMPT_LIMIT:
        return f"the message has {len(prompt)} characters, more than {PROMPT_LIMIT}"
    if not isinstance(session, str) or not _SESSION.fullmatch(session):
        return "sessionId wants 1 to 64 letters, digits, _ or -"
    return ""


def _failed(number: Any, error: str, status: str = "error") -> dict[str, Any]:
    return {"type": "done", "id": number, "status": status, "error": error}


def _error(status: int, message: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"error": {"message": message}}, status, headers)
