"""The proxy's own error answers, in plain ASGI messages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from starlette.types import Send

from telemetry.services.proxy.ledger.quota import Refusal
from telemetry.services.proxy.wires import Wire

_JSON = (b"content-type", b"application/json")


@dataclass
class RequestError(Exception):
    """A request that can't be answered as asked.

    Args:
        status: HTTP status.
        message: what is wrong and what to do.
        code: the provider's error code, ``""`` if it has none.
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
    """Return the answer to a call over a limit. It tells the SDKs not to retry a spent budget."""
    headers = {"retry-after": str(refusal.retry_after_s)}
    if not refusal.retry:
        headers["x-should-retry"] = "false"
    budget = refusal.kind in ("daily_budget", "monthly_budget")
    return RequestError(429, refusal.message, "insufficient_quota" if budget else "", headers)


def unauthorized(has_key: bool, revoked: bool = False) -> RequestError:
    """Return the answer to a call without a valid key."""
    if revoked:
        said = "this key was revoked: ask for a new one"
    elif has_key:
        said = "this key is unknown here: use one made by `telemetry keys create USER`"
    else:
        said = "no key: send one as `Authorization: Bearer tk-…` or `x-api-key: tk-…`"
    return RequestError(401, said)


def not_served(model: str) -> RequestError:
    """Return the answer to a call of a model that no upstream serves."""
    return RequestError(
        404, f"no upstream of this proxy serves {model!r}: choose one of /v1/models"
    )


def ledger_away(error: Exception) -> RequestError:
    """Return the answer while the ledger can't be used."""
    reason = str(getattr(error, "orig", None) or error).strip()
    return RequestError(
        503,
        f"the ledger can't be used ({reason}), so nothing was sent to the model: the "
        "proxy's operator must free disk space or restore the database",
        headers={"retry-after": "5"},
    )
