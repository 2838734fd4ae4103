"""The admin API: keys, budgets, costs; and a user's look at their own calls."""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import Awaitable, Callable
from typing import Any

from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from telemetry.errors import TelemetryError
from telemetry.services.proxy.http.parts import Proxy
from telemetry.services.proxy.http.request import key_of
from telemetry.services.proxy.ledger import accounts
from telemetry.services.proxy.ledger.call_ids import parse
from telemetry.services.proxy.ledger.reports import costs

# Longest wait for a call to be settled; a client gives up later than that.
SETTLE_WAIT_S = 10.0
_POLL_S = 0.02
_STATUS = {64: 400, 66: 404}

Handler = Callable[[Request], Awaitable[Response]]


def _error(status: int, message: str, remedy: str = "") -> JSONResponse:
    return JSONResponse({"error": {"message": message, "remedy": remedy}}, status)


def _away(error: SQLAlchemyError) -> JSONResponse:
    reason = str(getattr(error, "orig", None) or error).strip()
    return _error(
        503, f"the ledger can't be used: {reason}", "free disk space, or restore the database"
    )


def routes(proxy: Proxy) -> list[Route]:
    """The routes below ``/api``."""
    engine = proxy.ledger.engine
    token = proxy.settings.admin_token

    def admin(handler: Handler) -> Handler:
        async def checked(request: Request) -> Response:
            given = key_of(request.scope["headers"])
            if not token:
                return _error(503, "the admin API is off", "set TELEMETRY_ADMIN_TOKEN")
            if not hmac.compare_digest(given.encode(), token.encode()):
                return _error(
                    401, "wrong admin token", "send Authorization: Bearer TELEMETRY_ADMIN_TOKEN"
                )
            try:
                return await handler(request)
            except TelemetryError as error:
                return _error(_STATUS.get(error.exit_code, 500), error.message, error.remedy)
            except SQLAlchemyError as error:
                return _away(error)

        return checked

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
        try:
            return await looked_up(request)
        except SQLAlchemyError as error:
            return _away(error)

    async def looked_up(request: Request) -> Response:
        number = parse(request.path_params["call_id"])
        key = key_of(request.scope["headers"])
        user = await run_in_threadpool(accounts.user_of, engine, key) if key else None
        if user is None:
            return _error(401, "unknown key", "send the key the call was made with")
        until = time.monotonic() + SETTLE_WAIT_S
        while number is not None:
            found = await run_in_threadpool(proxy.ledger.call, number)
            if found is None or found["user_id"] != user:
                break
            if found["status"] != "open" or time.monotonic() > until:
                return JSONResponse(found)
            await asyncio.sleep(_POLL_S)
        return _error(404, "no such call of yours", "take the id from x-telemetry-call-id")

    return [
        Route("/api/keys", admin(create), methods=["POST"]),
        Route("/api/keys", admin(list_all), methods=["GET"]),
        Route("/api/keys/{key_id}", admin(revoke), methods=["DELETE"]),
        Route("/api/users/{user_id}/budget", admin(budget), methods=["PUT"]),
        Route("/api/costs", admin(spent), methods=["GET"]),
        Route("/api/calls/{call_id}", call, methods=["GET"]),
    ]


async def _object(request: Request) -> dict[str, Any]:
    try:
        given = await request.json()
    except ValueError:
        given = None
    if not isinstance(given, dict):
        raise accounts.AccountError("the request must be a JSON object", exit_code=64)
    return given
