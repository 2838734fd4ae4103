"""Read a request's key, body and JSON; large bodies are parsed off the event loop."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any, TypeVar

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool
from starlette.types import Message, Receive

from telemetry.services.proxy.http.errors import (
    RequestError,
    ledger_away,
    not_served,
    unauthorized,
)
from telemetry.services.proxy.ledger.accounts import refusal_of
from telemetry.services.proxy.settings import Settings, Upstream
from telemetry.services.proxy.upstream.request import RawHeaders
from telemetry.services.proxy.wires import Wire

T = TypeVar("T")

# A body up to this size is read before its key is known, and decoded in the event loop, which takes
# less than a millisecond; chosen by judgement, not measured.
SMALL_BYTES = 64 * 1024
# Lists, objects and their members in one request. The decoder holds the interpreter, in a thread
# too, and makes objects of sixty bytes from two; no model reads as many. Chosen by
# judgement, not measured.
MOST_VALUES = 2_000_000


def key_of(headers: RawHeaders) -> str:
    """Return the caller's key, from ``x-api-key`` or ``Authorization: Bearer``; ``""`` for none."""
    for name, value in headers:
        if name == b"x-api-key":
            return value.decode("latin-1")
        if name == b"authorization" and value[:7].lower() == b"bearer ":
            return value[7:].strip().decode("latin-1")
    return ""


async def check_key(engine: Engine, key: str) -> None:
    """Look a key up in the ledger, in a thread.

    Raises:
        RequestError: it may make no calls, or the ledger is away.
    """
    if not key:
        raise unauthorized(has_key=False)
    try:
        refusal = await run_in_threadpool(refusal_of, engine, key)
    except SQLAlchemyError as error:
        raise ledger_away(error) from None
    if refusal:
        raise unauthorized(has_key=True, revoked=refusal.revoked)


def length_of(headers: RawHeaders) -> int | None:
    """Return the body's length in bytes, None if the request doesn't say."""
    for name, value in headers:
        if name == b"content-length" and value.isdigit():
            return int(value)
    return None


async def read_body(receive: Receive, length: int | None, limit: int) -> bytes:
    """Read the request's body.

    Args:
        length: the length that the request declares, in bytes.
        limit: the largest length, in bytes.

    Raises:
        RequestError: it is larger, or the client disconnected.
    """
    too_large = RequestError(
        413, f"the request is larger than {limit} bytes, the most this proxy takes: shorten it"
    )
    if length is not None and length > limit:
        raise too_large
    parts, size = [], 0
    while True:
        message: Message = await receive()
        if message["type"] == "http.disconnect":
            raise RequestError(499, "the client disconnected before its request was complete")
        part: bytes = message.get("body", b"")
        size += len(part)
        if size > limit:
            raise too_large
        parts.append(part)
        if not message.get("more_body"):
            return part if len(parts) == 1 else b"".join(parts)


async def worked(work: Callable[[bytes], T], raw: bytes) -> T:
    """Return ``work`` of a body; a large one is worked on in a thread.

    Raises:
        RequestError: its lists and objects are nested too deeply to work on.
    """
    try:
        if len(raw) <= SMALL_BYTES:
            return work(raw)
        return await asyncio.to_thread(work, raw)
    except RecursionError:
        raise RequestError(400, "the request is nested too deeply: flatten it") from None


def decoded(raw: bytes) -> dict[str, Any]:
    """Return a body's JSON object.

    Raises:
        RequestError: it is not one.
    """
    if len(raw) > MOST_VALUES and len(raw) - len(raw.translate(None, b"[{,")) > MOST_VALUES:
        raise RequestError(
            413, f"the request has more than {MOST_VALUES:,} lists, objects and commas: shorten it"
        )
    try:
        request = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise RequestError(400, f"the request is not valid JSON: {error}") from None
    if not isinstance(request, dict):
        raise RequestError(400, "the request must be a JSON object")
    return request


def routed(settings: Settings, wire: Wire, model: str) -> tuple[str, Upstream]:
    """Return a model's real name and its upstream.

    Raises:
        RequestError: no upstream serves it.
    """
    real = settings.aliases.get(model, model)
    upstream = settings.route(wire.name, real)
    if upstream is None:
        raise not_served(real)
    return real, upstream
