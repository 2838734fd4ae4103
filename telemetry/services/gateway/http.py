"""What the gateway's routes share: reading a body within a limit, saying what is wrong."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse

BODY_LIMIT = 1 << 20
# What is too large is read to its end all the same, up to here: a client that is still sending
# would otherwise find its connection reset, not the answer.
DISCARD_LIMIT = 64 << 20


class BodyError(Exception):
    """A request's body can't be used.

    Args:
        status: HTTP status to answer with.
        message: what is wrong with it.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


async def read_body(request: Request, limit: int = BODY_LIMIT) -> bytes:
    """The request's body.

    Raises:
        BodyError: it is larger than ``limit`` bytes.
    """
    body = bytearray()
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > DISCARD_LIMIT:
            break
        if size <= limit:
            body += chunk
    if size > limit:
        raise BodyError(413, f"the body is larger than {limit} bytes: send less at once")
    return bytes(body)


async def read_json(request: Request) -> Any:
    """The request's body as JSON.

    Raises:
        BodyError: it is too large, or no JSON.
    """
    return parse(await read_body(request))


def parse(text: str | bytes) -> Any:
    """JSON, with nothing in it that can't be written as UTF-8 again.

    Raises:
        BodyError: it is no JSON.
    """
    try:
        value = json.loads(text)
        # "\ud800" alone is JSON, but no text: written out it would fail far from here.
        if isinstance(text, str):
            text = text.encode("utf-8", "replace")
        if b"\\ud" in text.lower():
            whole = json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")
            value = json.loads(whole)
    except (ValueError, RecursionError) as error:
        raise BodyError(400, f"the body is not JSON: {error}") from error
    return value


def problem(
    status: int, message: str, headers: Mapping[str, str] | None = None, **more: Any
) -> JSONResponse:
    """An error's answer: ``{"error": {"message": …}}``."""
    return JSONResponse({"error": {"message": message, **more}}, status, headers)
