"""Forward a container's telemetry to the Collector, within the container's limits."""

from __future__ import annotations

import asyncio
import io
import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import get_args

import aiohttp
from aiohttp import web

from telemetry import catalog, metrics
from telemetry.services.http import HTTPError, bearer_token
from telemetry.services.platform.relay import body, series, tokens
from telemetry.services.platform.relay.admission import Admission, Lease, Reason, Refused
from telemetry.services.platform.relay.notices import Notices
from telemetry.services.platform.relay.replies import only, unavailable
from telemetry.services.platform.settings import Settings
from telemetry.services.platform.state.store import Store

HANDLE_HEADER = "x-telemetry-handle"  # read by collector/config.yaml
COLLECTOR_TIMEOUT_S = 60
PROTOBUF = "application/x-protobuf"


class Otlp:
    """The relay's OTLP endpoint.

    Args:
        settings: where to forward to, and the limits.
        store: has the handles with a container.
        session: the client to forward with.
    """

    def __init__(self, settings: Settings, store: Store, session: aiohttp.ClientSession) -> None:
        self._settings = settings
        self._store = store
        self._session = session
        self._headers = settings.otlp_headers
        self._admission = Admission(settings.relay_rate_bytes)
        self._series = series.SeriesLimit(settings.relay_series)
        # One thread: one decoded body at a time, since decoding multiplies its size.
        self._decoder = ThreadPoolExecutor(1, "relay-metrics")
        self._refused = metrics.counter(catalog.PLATFORM_RELAY_REFUSED)
        self._dropped = metrics.counter(catalog.PLATFORM_RELAY_DROPPED)
        self._notices = Notices(logging.getLogger(__name__))

    def close(self) -> None:
        """Stop the decoder."""
        self._decoder.shutdown()

    def held_bytes(self) -> int:
        """Return how many bytes of bodies are in memory now."""
        return self._admission.held_bytes

    def forget_removed(self) -> None:
        """Forget what containers sent that exist no longer."""
        for handle in self._admission.handles():
            if self._store.get(handle) is None:
                self._admission.forget(handle)
                self._decoder.submit(self._series.forget, handle)
                for reason in get_args(Reason):
                    self._refused.end({"handle": handle, "reason": reason})
                self._dropped.end({"handle": handle})

    async def export(self, request: web.BaseRequest, signal: str) -> web.StreamResponse:
        """Answer one export.

        Args:
            request: the container's.
            signal: metrics, logs or traces.
        """
        token = bearer_token(request.headers.get("authorization", ""))
        handle = tokens.handle_of(self._settings.otlp_token, token)
        if not handle or not self._known(handle):
            return _message(401, "send Authorization: Bearer and the token of this container")
        try:
            with self._admission.admit(handle) as lease:
                return await self._forward(request, signal, handle, lease)
        except Refused as error:
            self._refused.add(1, {"handle": handle, "reason": error.reason})
            self._notices.warn(
                (handle, error.reason),
                f"telemetry of the container {handle} is refused: {error.message}",
            )
            return _message(error.status, f"{error.message}; {error.remedy}", error.headers)
        except HTTPError as error:
            return _message(error.status, "; ".join(filter(None, (error.message, error.remedy))))

    async def _forward(
        self, request: web.BaseRequest, signal: str, handle: str, lease: Lease
    ) -> web.StreamResponse:
        if signal == "metrics" and request.content_type == "application/json":
            # Decoding JSON takes a hundred times as long, in this process. No SDK needs it:
            # the platform sets OTEL_EXPORTER_OTLP_PROTOCOL in each container.
            raise HTTPError(
                415,
                "the relay takes metrics as protobuf only, not as JSON",
                "set OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf, as the platform does",
            )
        data, dropped = await body.read(request, lease), 0
        if signal == "metrics":
            loop = asyncio.get_running_loop()
            data, dropped = await loop.run_in_executor(
                self._decoder, self._series.apply, handle, data
            )
        if dropped:
            self._dropped.add(dropped, {"handle": handle})
            self._notices.warn(
                (handle, "series"),
                f"new series of the container {handle} are dropped: it has more than "
                f"{self._settings.relay_series} (TELEMETRY_PLATFORM_RELAY_SERIES)",
            )
            if not data:
                return self._partly(b"", dropped)
        headers = only(request.headers, "content-type", "user-agent")
        headers |= self._headers | {HANDLE_HEADER: handle}
        url = f"{self._settings.otlp_url}/v1/{signal}"
        try:
            async with (
                asyncio.timeout(COLLECTOR_TIMEOUT_S),
                self._session.post(url, data=io.BytesIO(data), headers=headers) as answer,
            ):
                said = await answer.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            return unavailable("Collector", error, self._notices)
        if dropped and answer.status == 200:
            return self._partly(said, dropped)
        return web.Response(
            body=said,
            status=answer.status,
            headers=only(answer.headers, "content-type", "retry-after"),
        )

    def _partly(self, answer: bytes, dropped: int) -> web.Response:
        said = series.partial_success(answer, dropped, self._settings.relay_series)
        return web.Response(body=said, headers={"content-type": PROTOBUF})

    def _known(self, handle: str) -> bool:
        record = self._store.get(handle)
        return record is not None and record.provisioned and record.phase != "removing"


def _message(status: int, message: str, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.json_response({"message": message}, status=status, headers=headers)
