"""The platform's API: containers by handle. All answers are JSON, except logs."""

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
from telemetry.services.platform.state.liveness import is_up
from telemetry.services.platform.state.observed import ContainerState, ObservedState
from telemetry.services.platform.state.store import Record, Store
from telemetry.system.docker_engine import close_stream

TAIL = 200  # default number of log lines
MAX_TAIL = 100_000
MAX_CONCURRENT_OPERATIONS = 32  # each mostly waits for Docker

T = TypeVar("T")


class Api:
    """Routes below ``/api/containers``.

    Args:
        settings: the platform's settings.
        access: checks requests.
        lifecycle: operates on containers.
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
        self._threads = ThreadPoolExecutor(MAX_CONCURRENT_OPERATIONS, "platform-docker")

    def routes(self) -> list[Route]:
        def route(method: str, path: str, handler: Handler) -> Route:
            checked = guarded(handler, self._access.check)
            return Route(f"/api/containers{path}", checked, methods=[method])

        return [
            route("GET", "", self._list),
            route("POST", "", self._provision),
            route("GET", "/{handle}", self._get),
            route("DELETE", "/{handle}", self._remove),
            route("POST", "/{handle}/start", self._operate("start")),
            route("POST", "/{handle}/stop", self._operate("stop")),
            route("POST", "/{handle}/restart", self._operate("restart")),
            route("GET", "/{handle}/logs", self._logs),
        ]

    def close(self) -> None:
        """Wait for operations in progress."""
        self._threads.shutdown()

    def containers(self) -> list[dict[str, Any]]:
        """Return all containers as JSON, sorted by handle."""
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
            # Values of the environment may be secret; its names are not.
            found["spec"] = {**record.spec, "env": sorted(record.spec.get("env") or ())}
        return JSONResponse(found)

    async def _provision(self, request: Request) -> Response:
        body = await read_json(request)
        # In a thread: it checks folders, and a disk may be slow.
        wanted = await self._thread(spec.parse, body, self._settings)
        state = await self._thread(self._lifecycle.provision, wanted)
        found = describe(wanted.handle, state, self._store.get(wanted.handle))
        return JSONResponse(found, 201, headers={"location": f"/api/containers/{wanted.handle}"})

    async def _remove(self, request: Request) -> Response:
        handle = spec.check_handle(request.path_params["handle"])
        await self._thread(self._lifecycle.remove, handle)
        return JSONResponse({"handle": handle, "removed": True})

    def _operate(self, what: str) -> Handler:
        operation: Callable[[str], ContainerState] = getattr(self._lifecycle, what)

        async def operate(request: Request) -> Response:
            handle = spec.check_handle(request.path_params["handle"])
            state = await self._thread(operation, handle)
            record = self._store.get(handle)
            if record is not None:
                # Show the request's result, even if the watcher has just applied an older event.
                record = replace(record, wanted=what != "stop")
            return JSONResponse(describe(handle, state, record))

        return operate

    async def _logs(self, request: Request) -> Response:
        """Answer in plain text: ``tail=N`` lines, and new ones with ``follow=true``."""
        handle = spec.check_handle(request.path_params["handle"])
        tail, follow = _tail(request), request.query_params.get("follow", "") in ("1", "true")
        stream = await self._thread(self._lifecycle.logs, handle, tail, follow)
        return StreamingResponse(
            self._chunks(stream),
            media_type="text/plain; charset=utf-8",
            headers={"x-content-type-options": "nosniff", "cache-control": "no-store"},
        )

    async def _chunks(self, stream: Any) -> AsyncIterator[bytes]:
        # One thread for each stream: waiting for a line must not block other streams.
        reader = ThreadPoolExecutor(1, "platform-logs")
        loop = asyncio.get_running_loop()
        try:
            while True:
                chunk: bytes = await loop.run_in_executor(reader, next, stream, b"")
                if not chunk:
                    return
                yield chunk
        finally:
            close_stream(stream)  # also wakes the thread that reads it
            # Read to the end; otherwise its connection stays open until it is garbage-collected.
            reader.submit(list, stream)
            reader.shutdown(wait=False)

    async def _thread(self, function: Callable[..., T], *args: Any) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, function, *args)


def describe(handle: str, state: ContainerState | None, record: Record | None) -> dict[str, Any]:
    """Return a container as the API shows it: observed and desired state.

    Args:
        handle: its handle.
        state: as last seen; None if Docker was not reached yet, or it is being created.
        record: its record in the store.
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
        "up": is_up(state, wanted),
        "restarts": record.totals.restarts if record else 0,
        "oom_kills": record.totals.oom_kills if record else 0,
    }


def _tail(request: Request) -> int:
    text = request.query_params.get("tail", str(TAIL))
    # The length first: Python refuses to convert thousands of digits.
    is_number = text.isascii() and text.isdigit() and len(text) <= len(str(MAX_TAIL))
    if not is_number or int(text) > MAX_TAIL:
        raise HTTPError(400, f"tail={text[:20]!r} is not a number of lines up to {MAX_TAIL}")
    return int(text)
