"""Take messages and stream answers: `POST /api/chat` and the web shell's WebSocket."""

from __future__ import annotations

import asyncio
import json
import re
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from telemetry import catalog, metrics
from telemetry.services.gateway.alerts import Alerts
from telemetry.services.gateway.dispatch import Dispatch, Event
from telemetry.services.gateway.dispatcher import Dispatcher, QueueFull
from telemetry.services.gateway.history import History
from telemetry.services.http import HTTPError, parse_json, read_json
from telemetry.services.login import SUBPROTOCOL, Login

PROMPT_CHARS = 100_000
RETRY_AFTER_S = 5
NOT_LOGGED_IN, BAD_SESSION, TRY_LATER = 4401, 4400, 1013
# Events that wait for a shell to read them; a shell that lags further behind is disconnected, and
# gets all of them from the history when it connects again.
MAX_WAITING_EVENTS = 5000
CLOSE_TIMEOUT_S = 5.0  # for the close frame; a client that doesn't read never gets it
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


class Chat:
    """Routes of conversations.

    Args:
        login: checks the shells' connections.
        dispatcher: answers messages.
        history: earlier turns.
        alerts: shown in the shell beside the answers.
    """

    def __init__(
        self, login: Login, dispatcher: Dispatcher, history: History, alerts: Alerts
    ) -> None:
        self._login, self._dispatcher = login, dispatcher
        self._history, self._alerts = history, alerts
        self._shells = metrics.gauge(catalog.GATEWAY_WS_CONNECTIONS_ACTIVE)
        self._shells.set(0)

    async def post(self, request: Request) -> Response:
        """Answer with server-sent events; see `Dispatch` for them."""
        body = await read_json(request)
        if not isinstance(body, dict):
            raise HTTPError(400, 'the body must be like {"message": "…", "sessionId": "…"}')
        given = body.get("sessionId")
        session = secrets.token_hex(8) if given is None else given
        wrong = _wrong(body.get("message"), session)
        if wrong:
            raise HTTPError(400, wrong)
        # A session that the client did not name can't be continued.
        dispatch = Dispatch(body["message"], "api", session, remembered=given is not None)
        try:
            self._dispatcher.submit(dispatch)
        except QueueFull as error:
            remedy, headers = f"try again in {RETRY_AFTER_S} s", {"retry-after": str(RETRY_AFTER_S)}
            raise HTTPError(503, str(error), remedy, headers) from None
        return _Answer(self._dispatcher, dispatch)

    async def websocket(self, websocket: WebSocket) -> None:
        """Serve a shell's connection."""
        session = websocket.query_params.get("session", "")
        protocols = websocket.scope.get("subprotocols") or []
        await websocket.accept(SUBPROTOCOL if SUBPROTOCOL in protocols else None)
        try:
            self._login.check(websocket)
        except HTTPError as error:
            # After accept: a page can't distinguish a refused handshake from a lost connection.
            code = NOT_LOGGED_IN if error.status == 401 else TRY_LATER
            await websocket.close(code, error.message)
            return
        if not _ID.fullmatch(session):
            await websocket.close(BAD_SESSION, "session=… is missing or malformed")
            return
        self._shells.add(1)
        try:
            shell = _Shell(websocket, session, self._login, self._dispatcher, self._history)
            await shell.run(self._alerts)
        finally:
            self._shells.add(-1)


class _Answer(StreamingResponse):
    """The events of a dispatch. If the client disconnects, the dispatch is cancelled."""

    def __init__(self, dispatcher: Dispatcher, dispatch: Dispatch) -> None:
        super().__init__(
            _server_sent(dispatch),
            media_type="text/event-stream",
            headers={
                "cache-control": "no-store",
                "x-session-id": dispatch.session,
                "x-trace-id": dispatch.trace_id,
            },
        )
        self._dispatcher, self._dispatch = dispatcher, dispatch

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._dispatcher.cancel(self._dispatch)


async def _server_sent(dispatch: Dispatch) -> AsyncIterator[str]:
    async for event in dispatch.stream():
        yield f"event: {event['type']}\ndata: {json.dumps(event, ensure_ascii=False)}\n\n"


class _Shell:
    """One shell's connection to one session.

    Answers continue without it; after a reconnect the shell finds them in the history."""

    def __init__(
        self,
        websocket: WebSocket,
        session: str,
        login: Login,
        dispatcher: Dispatcher,
        history: History,
    ) -> None:
        self._websocket, self._session = websocket, session
        self._login, self._log_in = login, login.session_of(websocket)
        self._dispatcher, self._history = dispatcher, history
        self._out: asyncio.Queue[Event] = asyncio.Queue(MAX_WAITING_EVENTS)
        self._tasks: set[asyncio.Task[None]] = set()
        self._dropped = metrics.counter(catalog.SERVICES_REQUESTS_REFUSED)
        self._closed: asyncio.Future[tuple[int, str]] = asyncio.get_running_loop().create_future()

    async def run(self, alerts: Alerts) -> None:
        """Serve the shell until it disconnects."""
        send, dispatcher, session = self._put, self._dispatcher, self._session
        settling = dispatcher.settling(session)
        send({"type": "alerts", "alerts": alerts.firing()})
        send({"type": "sessions", "sessions": self._history.sessions()})
        send({"type": "history", "turns": self._history.turns(session)})
        stop_alerts = alerts.listen(lambda alert: send({"type": "alert", "alert": alert}))
        stop_messages = dispatcher.listen(session, self._follow)
        for dispatch in dispatcher.active(session):
            self._follow(dispatch)
        for dispatch in settling:
            self._spawn(self._forward(dispatch, "done"))
        send({"type": "ready"})
        stop_listening = self._close_at_log_out()
        self._spawn(self._send())
        self._spawn(self._receive_all())
        try:
            code, reason = await self._closed
            with suppress(RuntimeError, WebSocketDisconnect, TimeoutError):
                await asyncio.wait_for(self._websocket.close(code, reason), CLOSE_TIMEOUT_S)
        finally:
            stop_alerts()
            stop_messages()
            stop_listening()
            for task in tuple(self._tasks):
                task.cancel()

    def _close_at_log_out(self) -> Callable[[], None]:
        if self._log_in is None:
            return lambda: None
        return self._login.sessions.on_end(
            self._log_in, lambda: self._close(NOT_LOGGED_IN, "logged out")
        )

    def _close(self, code: int, reason: str) -> None:
        if not self._closed.done():
            self._closed.set_result((code, reason))

    def _put(self, event: Event) -> None:
        try:
            self._out.put_nowait(event)
        except asyncio.QueueFull:
            if not self._closed.done():
                self._dropped.add(1, {"reason": "slow"})
            self._close(TRY_LATER, "the client reads too slowly")

    async def _receive_all(self) -> None:
        try:
            while True:
                text = await self._websocket.receive_text()
                self._login.check(self._websocket)  # the log-in may have expired
                await self._receive(text)
        except WebSocketDisconnect:
            self._close(1000, "")
        except (HTTPError, KeyError) as error:  # KeyError: a binary message
            if isinstance(error, HTTPError) and error.status == 401:
                self._close(NOT_LOGGED_IN, "log in again")
            else:
                self._close(1007, "not a message of the web shell")

    async def _receive(self, text: str) -> None:
        message = parse_json(text)
        kind = message.get("type") if isinstance(message, dict) else None
        if kind == "cancel":
            for dispatch in self._dispatcher.active(self._session):
                self._dispatcher.cancel(dispatch)
        elif kind == "message":
            self._submit(message.get("id"), message.get("text"))
        else:
            raise HTTPError(400, "unknown type")

    def _submit(self, number: Any, prompt: Any) -> None:
        if not isinstance(number, str) or not _ID.fullmatch(number):
            raise HTTPError(400, "id is missing or malformed")
        if self._has(number):
            return  # the shell sent it again after a reconnect
        wrong, status = _wrong(prompt, self._session), "error"
        if not wrong:
            try:
                self._dispatcher.submit(Dispatch(prompt, "web", self._session, number))
                return
            except QueueFull as error:
                wrong, status = f"{error}: try again", "rejected"
        self._put({"type": "done", "id": number, "status": status, "error": wrong})

    def _has(self, number: str) -> bool:
        active = self._dispatcher.active(self._session)
        return any(d.number == number for d in active) or any(
            turn["id"] == number for turn in self._history.turns(self._session)
        )

    def _follow(self, dispatch: Dispatch) -> None:
        self._put({"type": "begin", "id": dispatch.number, "text": dispatch.prompt})
        self._spawn(self._forward(dispatch, ""))

    async def _forward(self, dispatch: Dispatch, only: str) -> None:
        async for event in dispatch.stream():
            if not only or event["type"] == only:
                self._put({**event, "id": dispatch.number})
        self._put({"type": "sessions", "sessions": self._history.sessions()})

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _send(self) -> None:
        with suppress(WebSocketDisconnect, RuntimeError):
            while True:
                event = await self._out.get()
                if self._log_in and not self._login.sessions.is_open(self._log_in):
                    self._close(NOT_LOGGED_IN, "log in again")
                    return
                await self._websocket.send_json(event)


def _wrong(prompt: Any, session: Any) -> str:
    """Return what is wrong with a message, "" if nothing is."""
    if not isinstance(prompt, str) or not prompt.strip():
        return '"message" must be text, and not empty'
    if len(prompt) > PROMPT_CHARS:
        return f"the message has {len(prompt)} characters, more than {PROMPT_CHARS}"
    if not isinstance(session, str) or not _ID.fullmatch(session):
        return '"sessionId" must be 1 to 64 letters, digits, _ or -'
    return ""
