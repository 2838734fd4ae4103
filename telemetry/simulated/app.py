"""The simulated model's server: a Starlette app with an endpoint for each call of a wire."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from starlette.applications import Starlette
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from telemetry.simulated import anthropic, openai
from telemetry.simulated.script import KNOWN, Directives, Reply, Turn, directives, reply

MODELS = (
    "claude-sonnet-4-6",
    "claude-haiku-4-5",
    "gpt-4.1",
    "gpt-5-mini",
    "text-embedding-3-small",
    "simulated-claude",
    "simulated-gpt",
)
Parts = tuple[list[bytes], list[bytes], list[bytes]]
_MARKS = [(b"x-simulated", b"true"), (b"request-id", b"req_simulated")]


class Dropped(Exception):
    """Raised to make the server close the connection in the middle of an answer."""


@dataclass
class Wire:
    """Functions with which an endpoint reads requests and renders answers."""

    read: Callable[[dict[str, Any], int], Turn]
    whole: Callable[[str, int, Reply, Directives], dict[str, Any]]
    events: Callable[[str, int, Reply, Directives, dict[str, Any]], Parts]
    error: Callable[[int, str], dict[str, Any]]
    error_event: Callable[[str], bytes]


def _asked_for_usage(request: dict[str, Any]) -> bool:
    return bool((request.get("stream_options") or {}).get("include_usage"))


MESSAGES = Wire(
    anthropic.read,
    anthropic.message,
    lambda model, number, answer, asked, _: anthropic.events(model, number, answer, asked),
    anthropic.error,
    anthropic.error_event,
)
CHAT = Wire(
    openai.read_chat,
    openai.chat,
    lambda model, number, answer, asked, request: openai.chat_events(
        model, number, answer, asked, _asked_for_usage(request)
    ),
    openai.error,
    openai.error_event,
)
RESPONSES = Wire(
    openai.read_responses,
    openai.response,
    lambda model, number, answer, asked, _: openai.response_events(model, number, answer, asked),
    openai.error,
    openai.error_event,
)


class Simulator:
    """State that all endpoints share: a running number, and the requests of each id."""

    def __init__(self) -> None:
        self.numbers = itertools.count(1)
        self.seen: Counter[str] = Counter()
        self.cancelled = 0


async def _body(receive: Receive) -> bytes:
    body = b""
    while True:
        message = await receive()
        part: bytes = message.get("body", b"")
        body += part
        if not message.get("more_body"):
            return body


async def _send(
    send: Send, status: int, value: object, headers: dict[str, str] | None = None
) -> None:
    body = value if isinstance(value, bytes) else anthropic.dumps(value).encode("utf-8", "replace")
    raw = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body)), *_MARKS]
    raw += [(k.encode(), v.encode()) for k, v in (headers or {}).items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})


class Endpoint:
    """One generating endpoint. Raw ASGI, because it is the upstream in benchmarks."""

    def __init__(self, wire: Wire, simulator: Simulator) -> None:
        self.wire = wire
        self.simulator = simulator

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        raw = await _body(receive)
        wire = self.wire
        header = next((v.decode() for k, v in scope["headers"] if k == b"x-simulated"), "")
        try:
            request = json.loads(raw)
            model = request["model"]
            asked = directives(model, header, request.get("metadata"))
            turn = wire.read(request, len(raw))
        except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
            await _send(send, 400, wire.error(400, f"simulated: bad request: {error!r}"))
            return
        if not model.startswith(KNOWN):
            await _send(send, 404, wire.error(404, f"simulated: model {model!r} does not exist"))
            return
        if asked.hang:
            # Only a disconnect of the client ends the wait.
            while (await receive())["type"] != "http.disconnect":
                pass
            self.simulator.cancelled += 1
            return
        if asked.delay:
            await asyncio.sleep(asked.delay)
        if asked.status and self._errs(asked):
            extra = {"retry-after": asked.retry_after} if asked.retry_after else None
            await _send(send, asked.status, wire.error(asked.status, "simulated error"), extra)
            return
        answer = reply(turn, asked)
        number = next(self.simulator.numbers)
        if request.get("stream"):
            parts = wire.events(model, number, answer, asked, request)
            await self._stream(receive, send, parts, asked)
        elif asked.garbled:
            await _send(send, 200, b'{"id": "simulated", "garb\x00led')
        else:
            await _send(send, 200, wire.whole(model, number, answer, asked))

    def _errs(self, asked: Directives) -> bool:
        self.simulator.seen[asked.id] += 1
        return not asked.times or self.simulator.seen[asked.id] <= asked.times

    async def _stream(self, receive: Receive, send: Send, parts: Parts, asked: Directives) -> None:
        kind = b"text/event-stream; charset=utf-8"
        headers = [(b"content-type", kind), (b"cache-control", b"no-cache"), *_MARKS]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        before, chunks, after = parts
        if asked.garbled:
            chunks = [b"data: {not json\n\n" for _ in chunks]
            after = []
        gone = asyncio.ensure_future(receive()) if asked.gap else None
        try:
            await send({"type": "http.response.body", "body": b"".join(before), "more_body": True})
            for index, chunk in enumerate(chunks):
                if index == asked.drop_after:
                    raise Dropped("simulated: dropped in the middle of a stream")
                if index == asked.error_after:
                    event = self.wire.error_event("simulated: overloaded")
                    await send({"type": "http.response.body", "body": event})
                    return
                if gone:
                    done, _ = await asyncio.wait({gone}, timeout=asked.gap)
                    if done:
                        self.simulator.cancelled += 1
                        return
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b"".join(after)})
        finally:
            if gone:
                gone.cancel()


class Other:
    """Embeddings, token counts and the list of models."""

    def __init__(self, simulator: Simulator, answer: Callable[[Scope, bytes], object]) -> None:
        self.simulator = simulator
        self.answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        raw = await _body(receive)
        try:
            value = self.answer(scope, raw)
        except (ValueError, RecursionError, KeyError, TypeError) as error:
            await _send(send, 400, openai.error(400, f"simulated: bad request: {error!r}"))
            return
        await _send(send, 404 if isinstance(value, dict) and "error" in value else 200, value)


def _embeddings(scope: Scope, raw: bytes) -> object:
    request = json.loads(raw)
    if not request["model"].startswith(KNOWN):
        return openai.error(404, f"simulated: model {request['model']!r} does not exist")
    return openai.embeddings(request, max(1, len(raw) // 4))


def _count_tokens(scope: Scope, raw: bytes) -> object:
    json.loads(raw)
    return {"input_tokens": max(1, len(raw) // 4)}


def _models(scope: Scope, raw: bytes) -> object:
    if any(key == b"anthropic-version" for key, _ in scope["headers"]):
        created = "2023-11-14T22:13:20Z"
        entries = [
            {"type": "model", "id": n, "display_name": f"Simulated {n}", "created_at": created}
            for n in MODELS
        ]
        return {"data": entries, "has_more": False, "first_id": MODELS[0], "last_id": MODELS[-1]}
    return {
        "object": "list",
        "data": [
            {"id": name, "object": "model", "created": openai.CREATED, "owned_by": "simulated"}
            for name in MODELS
        ],
    }


def _model(scope: Scope, raw: bytes) -> object:
    name = scope["path_params"]["model"]
    if name not in MODELS:
        return openai.error(404, f"simulated: model {name!r} does not exist")
    return {"id": name, "object": "model", "created": openai.CREATED, "owned_by": "simulated"}


class _Health:
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await _send(send, 200, {"status": "ok", "simulated": True})


def create_app() -> Starlette:
    """Return the simulated model as an ASGI app; ``app.state.simulator`` has its state."""
    simulator = Simulator()
    post = ["POST"]
    app = Starlette(
        routes=[
            Route("/v1/messages", Endpoint(MESSAGES, simulator), methods=post),
            Route("/v1/chat/completions", Endpoint(CHAT, simulator), methods=post),
            Route("/v1/responses", Endpoint(RESPONSES, simulator), methods=post),
            Route("/v1/embeddings", Other(simulator, _embeddings), methods=post),
            Route("/v1/messages/count_tokens", Other(simulator, _count_tokens), methods=post),
            Route("/v1/models", Other(simulator, _models), methods=["GET"]),
            Route("/v1/models/{model:path}", Other(simulator, _model), methods=["GET"]),
            Route("/health", _Health(), methods=["GET"]),
        ]
    )
    app.state.simulator = simulator
    return app
