"""The platform's API: containers by handle. Every answer is JSON but for logs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from telemetry.services.http import Handler, HTTPError, guarded, read_json
from telemetry.services.login import Access
from telemetry.services.platform.containers import spec
from telemetry.services.platform.containers.lifecycle import Lifecycle, unknown
from telemetry.services.platform.settings import Settings
from telemetry.services.platform.state.observed import RUNS, ContainerState, ObservedState
from telemetry.services.platform.state.store import Record, Store
from telemetry.system.docker_engine import cut

TAIL = 200  # log lines, unless asked for others
TAIL_LIMIT = 100_000
THREADS = 32  # operations of Docker's at once; each mostly waits for it

T = TypeVar("T")


class Api:
    """Routes below ``/api/containers``.

    Args:
        settings: what the platform was told.
        access: who may call.
        lifecycle: what is done.
        store: the desired state.
        observed: the observed state.
    """

    def __init__(
        self,
        settings: Settings,
        access: Access,
        lifecycle: Lifecycle,
        store: Store,
        observed: ObservedState,
    ) -> None:
        self._settings = settings
        self._access = access
        self._lifecycle = lifecycle
        self._store = store
        self._observed = observed
        self._threads = ThreadPoolExecutor(THREADS, "platform-docker")

    def routes(self) -> list[Route]:
        def route(method: str, path: str, handler: Handler) -> Route:
            checked = guarded(handler, self._access.check)
            return Route(f"/api/containers{path}", checked, methods=[method])

        return [
            route("GET", "", self._list),
            route("POST", "", self._provision),
            route("GET", "/{handle}", self._get),
            route("DELETE", "/{handle}", self._remove),
            route("POST", "/{handle}/start", self._do("start")),
            route("POST", "/{handle}/stop", self._do("stop")),
            route("POST", "/{handle}/restart", self._do("restart")),
            route("GET", "/{handle}/logs", self._logs),
        ]

    def close(self) -> None:
        """Wait for what is being done."""
        self._threads.shutdown()

    def containers(self) -> list[dict[str, Any]]:
        """All of them as JSON, by handle."""
        states = {state.handle: state for state in self._observed.all()}
        records = {record.handle: record for record in self._store.all()}
        return [
            describe(handle, states.get(handle), records.get(handle))
            for handle in sorted(states | records)
        ]

    async def _list(self, request: Request) -> Response:
        return JSONResponse({"containers": self.containers()})

    async def _get(self, request: Request) -> Response:
        handle = spec.check_handle(request.path_params["handle"])
        state, record = self._observed.get(handle), self._store.get(handle)
        if state is None and record is None:
            raise unknown(handle)
        found = describe(handle, state, record)
        if record is not None and record.spec:
            # What the environment holds may be secret; its names are not.
            found["spec"] = {**record.spec, "env": sorted(record.spec.get("env") or ())}
        return JSONResponse(found)

    async def _provision(self, request: Request) -> Response:
        body = await read_json(request)
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
        container_id = record.container_id if record else ""
        state = ContainerState(handle, container_id, image=image, state="unknown")
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


def _tail(request: Request) -> int:
    text = request.query_params.get("tail", str(TAIL))
    if not text.isascii() or not text.isdigit() or int(text) > TAIL_LIMIT:
        raise HTTPError(400, f"tail={text!r} is not a number of lines up to {TAIL_LIMIT}")
    return int(text)
