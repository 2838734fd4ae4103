"""The admin API for keys, budgets and costs, and the users' API for their own calls."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from telemetry.errors import TelemetryError
from telemetry.services.http import (
    ErrorHandler,
    HTTPError,
    error_reply,
    guarded,
    read_json,
    reply_http_error,
)
from telemetry.services.login import Access
from telemetry.services.proxy.http.parts import Proxy
from telemetry.services.proxy.http.request import key_of
from telemetry.services.proxy.ledger import accounts
from telemetry.services.proxy.ledger.call_ids import parse
from telemetry.services.proxy.ledger.reports import costs

# Maximum time to wait for a call to be settled; shorter than clients' timeouts.
SETTLE_WAIT_S = 10.0
_POLL_S = 0.02

# HTTP status by exit code, for errors that the command line has too.
_STATUS = {64: 400, 66: 404}


def routes(proxy: Proxy) -> list[Route]:
    """Return the routes below ``/api``."""
    engine = proxy.ledger.engine
    token = proxy.settings.admin_token
    access = Access(token, "TELEMETRY_ADMIN_TOKEN")

    def check(request: Request) -> None:
        if not token:
            raise HTTPError(503, "the admin API is off", "set TELEMETRY_ADMIN_TOKEN")
        # The token may be in either of the two headers that carry a key.
        access.check_given(request, key_of(request.scope["headers"]))

    async def create(request: Request) -> Response:
        given = await _object(request)
        user = given.get("user_id")
        if not isinstance(user, str):
            raise accounts.AccountError("`user_id` is missing", exit_code=64)
        key = await run_in_threadpool(accounts.create_key, engine, user, accounts.limits(given))
        return JSONResponse({"id": key.id, "user_id": key.user_id, "key": key.key}, 201)

    async def list_all(request: Request) -> Response:
        return JSONResponse({"keys": await run_in_threadpool(accounts.list_keys, engine)})

    async def revoke(request: Request) -> Response:
        key_id = request.path_params["key_id"]
        await run_in_threadpool(accounts.revoke_key, engine, key_id)
        return JSONResponse({"id": key_id, "revoked": True})

    async def budget(request: Request) -> Response:
        given = accounts.limits(await _object(request))
        user = request.path_params["user_id"]
        return JSONResponse(await run_in_threadpool(accounts.set_limits, engine, user, given))

    async def spent(request: Request) -> Response:
        query = request.query_params
        report = await run_in_threadpool(
            lambda: costs(
                engine,
                user=query.get("user", ""),
                model=query.get("model", ""),
                since=query.get("since", ""),
                group=query.get("group", ""),
            )
        )
        return JSONResponse(report)

    async def call(request: Request) -> Response:
        number = parse(request.path_params["call_id"])
        key = key_of(request.scope["headers"])
        user = await run_in_threadpool(accounts.user_of, engine, key) if key else None
        if user is None:
            raise HTTPError(401, "unknown key", "send the key that the call was made with")
        until = time.monotonic() + SETTLE_WAIT_S
        while number is not None:
            found = await run_in_threadpool(proxy.ledger.call, number)
            if found is None or found["user_id"] != user:
                break
            if found["status"] != "open" or time.monotonic() > until:
                return JSONResponse(found)
            await asyncio.sleep(_POLL_S)
        raise HTTPError(
            404, "this user has no such call", "take the id from the header x-telemetry-call-id"
        )

    return [
        Route("/api/keys", guarded(create, check), methods=["POST"]),
        Route("/api/keys", guarded(list_all, check), methods=["GET"]),
        Route("/api/keys/{key_id}", guarded(revoke, check), methods=["DELETE"]),
        Route("/api/users/{user_id}/budget", guarded(budget, check), methods=["PUT"]),
        Route("/api/costs", guarded(spent, check), methods=["GET"]),
        Route("/api/calls/{call_id}", call, methods=["GET"]),
    ]


async def _reply_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, TelemetryError)
    return error_reply(_STATUS.get(error.exit_code, 500), error)


async def _reply_no_ledger(request: Request, error: Exception) -> Response:
    reason = str(getattr(error, "orig", None) or error).strip()
    remedy = "free disk space, or restore the database"
    return error_reply(503, TelemetryError(f"the ledger can't be used: {reason}", remedy=remedy))


ERROR_HANDLERS: dict[Any, ErrorHandler] = {
    HTTPError: reply_http_error,
    TelemetryError: _reply_error,
    SQLAlchemyError: _reply_no_ledger,
}


async def _object(request: Request) -> dict[str, Any]:
    given = await read_json(request)
    if not isinstance(given, dict):
        raise HTTPError(400, "the body is not a JSON object")
    return given
