"""The platform's API: containers by handle. Every answer is JSON but for logs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from telemetry.services.login import Access
from telemetry.services.platform.containers import spec
from telemetry.services.platform.containers.lifecycle import Lifecycle, unknown
from telemetry.services.platform.errors import Problem
from telemetry.services.platform.settings import Settings
from telemetry.services.platform.state.observed import RUNS, Containers, ContainerState
from telemetry.services.platform.state.store import Record, Store
from telemetry.system.docker_engine import EngineAbsent, cut

BODY_LIMIT = 1 << 20
TAIL = 200  # log lines, unless asked for others
TAIL_LIMIT = 100_000
THREADS = 32  # operations of Docker's at once; each mostly waits for it

Handler = Callable[[Request], Awaitable[Response]]
T = TypeVar("T")


class Api:
    """Routes below ``/api/containers``.

    Args:
        settings: what the platform was told.
        access: who may call.
        lifecycle: what is done.
        store: the desired state.
        view: what is known of the containers.
    """

    def __init__(
        self,
        settings: Settings,
        access: Access,
        lifecycle: Lifecycle,
        store: Store,
        view: Containers,
    ) -> None:
        self._settings = settings
        self._access = access
        self._lifecycle = lifecycle
        self._store = store
        self._view = view
        self._threads = ThreadPoolExecutor(THREADS, "platform-docker")

    def routes(self) -> list[Route]:
        base, guarded = "/api/containers", self.guarded
        return [
            Route(base, guarded(self._list), methods=["GET"]),
            Route(base, guarded(self._provision), methods=["POST"]),
            Route(base + "/{handle}", guarded(self._get), methods=["GET"]),
            Route(base + "/{handle}", guarded(self._remove), methods=["DELETE"]),
            Route(base + "/{handle}/start", guarded(self._do("start")), methods=["POST"]),
            Route(base + "/{handle}/stop", guarded(self._do("stop")), methods=["POST"]),
            Route(base + "/{handle}/restart", guarded(self._do("restart")), methods=["POST"]),
            Route(base + "/{handle}/logs", guarded(self._logs), methods=["GET"]),
        ]

    def close(self) -> None:
        """Wait for what is being done."""
        self._threads.shutdown()

    def guarded(self, handler: Handler) -> Handler:
        """``handler`` for those who may, with problems as JSON."""

        async def answering(request: Request) -> Response:
            if not self._access.same_origin(request):
                return error(403, "pages of other sites may not call this")
            if not self._access.allowed(request):
                return error(
                    401,
                    "no admin token, or a wrong one",
                    "send authorization: Bearer and TELEMETRY_ADMIN_TOKEN",
                )
            try:
                return await handler(request)
            except Problem as problem:
                return error(problem.status, problem.message, problem.remedy)
            except EngineAbsent as problem:
                return error(503, problem.message, problem.remedy)

        return answering

    def containers(self) -> list[dict[str, Any]]:
        """All of them as JSON, by handle."""
        states = {state.handle: state for state in self._view.all()}
        records = {record.handle: record for record in self._store.all()}
        return [
            describe(handle, states.get(handle), records.get(handle))
            for handle in sorted(states | records)
        ]

    async def _list(self, request: Request) -> Response:
        return JSONResponse({"containers": self.containers()})

    async def _get(self, request: Request) -> Response:
        handle = spec.check_handle(request.path_params["handle"])
        state, record = self._view.get(handle), self._store.get(handle)
        if state is None and record is None:
            raise unknown(handle)
        found = describe(handle, state, record)
        if record is not None and record.spec:
            # What the environment holds may be secret; its names are not.
            found["spec"] = {**record.spec, "env": sorted(record.spec.get("env") or ())}
        return JSONResponse(found)

    async def _provision(self, request: Request) -> Response:
        try:
            body = json.loads(await _body(request))
        except ValueError:
            raise Problem(
                400, "the body is not JSON", 'send {"handle": "ann", "image": "name:tag"}'
            ) from None
        # Looks at folders of this machine's: a disk may be slow.
        wanted = await self._thread(spec.parse, body, self._settings.volumes)
        state = await self._thread(self._lifecycle.provision, wanted)
        found = describe(wanted.handle, state, self._store.get(wanted.handle))
        return JSONResponse(found, 201, headers={"location": f"/api/containers/{wanted.handle}"})

    async def _remove(self, request: Request) -> Response:
        handle = spec.check_handle(request.path_params["handle"])
        await self._thread(self._lifecycle.remove, handle)
        return JSONResponse({"handle": handle, "removed": True})

    def _do(self, what: str) -> Handler:
        operation: Callable[[str], ContainerState] = getattr(self._lifecycle, what)

        async def doing(request: Request) -> Response:
            handle = spec.check_handle(request.path_params["handle"])
            state = await self._thread(operation, handle)
            record = self._store.get(handle)
            if record is not None:
                # What was asked for, whatever the watcher has made of older events meanwhile.
                record = replace(record, wanted=what != "stop")
            return JSONResponse(describe(handle, state, record))

        return doing

    async def _logs(self, request: Request) -> Response:
        """Plain text; ``tail=N`` lines, ``follow=true`` for what comes, too."""
        handle = spec.check_handle(request.path_params["handle"])
        tail, follow = _tail(request), request.query_params.get("follow", "") in ("1", "true")
        stream = await self._thread(self._lifecycle.logs, handle, tail, follow)
        return StreamingResponse(
            self._chunks(stream),
            media_type="text/plain; charset=utf-8",
            headers={"x-content-type-options": "nosniff", "cache-control": "no-store"},
        )

    async def _chunks(self, stream: Any) -> AsyncIterator[bytes]:
        # A thread of its own for each: one that waits for a line must not keep others waiting.
        reader = ThreadPoolExecutor(1, "platform-logs")
        loop = asyncio.get_running_loop()
        try:
            while True:
                chunk: bytes = await loop.run_in_executor(reader, next, stream, b"")
                if not chunk:
                    return
                yield chunk
        finally:
            cut(stream)  # also wakes the thread that reads it
            # Read to the end, or its connection stays open until somebody collects it.
            reader.submit(list, stream)
            reader.shutdown(wait=False)

    async def _thread(self, function: Callable[..., T], *args: Any) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, function, *args)


def describe(handle: str, state: ContainerState | None, record: Record | None) -> dict[str, Any]:
    """A container as the API shows it: what is, and what is wanted.

    Args:
        handle: whose.
        state: as last seen; None where Docker has not been seen yet, or it is being made.
        record: what is kept of it.
    """
    wanted = record is not None and record.wanted
    if state is None:
        image = (record.spec or {}).get("image", "") if record else ""
        state = ContainerState(handle, record.container_id if record else "", image=image,
                               state="unknown")  # fmt: skip
    found = asdict(state)
    del found["pid"], found["host_network"]
    return {
        **found,
        "provisioned": record.provisioned if record else state.provisioned,
        "phase": record.phase if record else "made",
        "wanted": wanted,
        "up": (state.state in RUNS) if wanted else None,
        "restarts": record.totals.restarts if record else 0,
        "oom_kills": record.totals.oom_kills if record else 0,
    }


def error(status: int, message: str, remedy: str = "") -> JSONResponse:
    """A problem in the API's form."""
    return JSONResponse({"error": {"message": message, "remedy": remedy}}, status)


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_LIMIT:
            raise Problem(413, f"the body is larger than {BODY_LIMIT} bytes")
    return bytes(body)


def _tail(request: Request) -> int:
    text = request.query_params.get("tail", str(TAIL))
    if not text.isascii() or not text.isdigit() or int(text) > TAIL_LIMIT:
        raise Problem(400, f"tail={text!r} is not a number of lines up to {TAIL_LIMIT}")
    return int(text)
