"""Answers of the proxy's own, in plain ASGI messages, and reading requests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from starlette.types import Message, Receive, Send

from telemetry.services.proxy.quota import Refusal
from telemetry.services.proxy.wires import Wire

RawHeaders = list[tuple[bytes, bytes]]
_JSON = (b"content-type", b"application/json")


@dataclass
class RequestError(Exception):
    """A request that can't be answered as asked.

    Args:
        status: HTTP status.
        message: what is wrong and what to do.
        code: the provider's own word for it, where it has one.
        headers: further headers.
    """

    status: int
    message: str
    code: str = ""
    headers: Mapping[str, str] | None = None


async def send_json(
    send: Send, status: int, body: bytes, headers: Mapping[str, str] | None = None
) -> None:
    """Send a JSON body in one piece."""
    raw = [_JSON, (b"content-length", b"%d" % len(body))]
    if headers:
        raw += [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})


async def send_error(send: Send, wire: Wire, error: RequestError) -> None:
    """Send an error in the caller's format."""
    await send_json(
        send, error.status, wire.error(error.status, error.message, error.code), error.headers
    )


def refused(refusal: Refusal) -> RequestError:
    """The answer to a call over a limit. The SDKs would try a spent budget again and again,
    were they not told not to.
    """
    headers = {"retry-after": str(refusal.retry_after_s)}
    if not refusal.retry:
        headers["x-should-retry"] = "false"
    budget = refusal.kind in ("daily_budget", "monthly_budget")
    return RequestError(429, refusal.message, "insufficient_quota" if budget else "", headers)


def unauthorized(has_key: bool, revoked: bool = False) -> RequestError:
    """The answer to a call without a valid key."""
    if revoked:
        said = "this key was revoked: ask for a new one"
    elif has_key:
        said = "this key is unknown here: use one made by `telemetry keys create USER`"
    else:
        said = "no key: send one as `Authorization: Bearer tk-…` or `x-api-key: tk-…`"
    return RequestError(401, said)


def not_served(model: str) -> RequestError:
    """The answer to a call of a model that goes nowhere."""
    return RequestError(
        404, f"no upstream of this proxy serves {model!r}: choose one of /v1/models"
    )


def ledger_away(error: Exception) -> RequestError:
    """The answer while the ledger can't be used."""
    reason = str(getattr(error, "orig", None) or error).strip()
    return RequestError(
        503,
        f"the ledger can't be used ({reason}), so nothing was sent to the model: whoever runs "
        "this proxy must free disk space or restore the database",
        headers={"retry-after": "5"},
    )


async def read_body(receive: Receive, headers: RawHeaders, limit: int) -> bytes:
    """The request's body.

    Raises:
        RequestError: it is larger than ``limit`` bytes, or the client went.
    """
    too_large = RequestError(
        413, f"the request is larger than {limit} bytes, the most this proxy takes: shorten it"
    )
    for name, value in headers:
        if name == b"content-length" and (not value.isdigit() or int(value) > limit):
            raise too_large
    parts, size = [], 0
    while True:
        message: Message = await receive()
        if message["type"] == "http.disconnect":
            raise RequestError(499, "the client went before its request was whole")
        part: bytes = message.get("body", b"")
        size += len(part)
        if size > limit:
            raise too_large
        parts.append(part)
        if not message.get("more_body"):
            return part if len(parts) == 1 else b"".join(parts)


def key_of(headers: RawHeaders) -> str:
    """The caller's key, from ``x-api-key`` or ``Authorization: Bearer``; ``""`` for none."""
    for name, value in headers:
        if name == b"x-api-key":
            return value.decode("latin-1")
        if name == b"authorization" and value[:7].lower() == b"bearer ":
            return value[7:].strip().decode("latin-1")
    return ""
