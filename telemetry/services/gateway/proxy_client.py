"""The gateway's client of the proxy: its key, its calls, their cost."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import aiohttp

from telemetry.errors import TelemetryError
from telemetry.services.gateway.kernel import Call, KernelError
from telemetry.services.gateway.settings import Settings
from telemetry.settings import credentials

SETTLE_TIMEOUT_S = 90.0  # longer than the proxy reads on after a client disconnects
RETRY_S = 0.5
_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=300)
_log = logging.getLogger(__name__)


@dataclass
class Usage:
    """Tokens and cost of calls, as the ledger settled them."""

    tokens_in: int = 0
    tokens_out: int = 0
    cost_usd: str = "0"
    models: dict[str, tuple[int, int, str]] = field(default_factory=dict)
    """By model: tokens in, tokens out, cost in USD."""


class ProxyClient:
    """Calls the proxy with the gateway's own key; requests a key the first time.

    Args:
        settings: the gateway's settings.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._key = settings.proxy_key or settings.stored_proxy_key
        self._key_lock = asyncio.Lock()
        self._opened: aiohttp.ClientSession | None = None
        self._late: dict[str, list[asyncio.Task[str]]] = {}
        """By traceparent: the ids of calls that were cancelled before the proxy answered."""

    @property
    def _session(self) -> aiohttp.ClientSession:
        if self._opened is None:
            self._opened = aiohttp.ClientSession(timeout=_TIMEOUT)
        return self._opened

    @asynccontextmanager
    async def post(
        self, path: str, body: Any, traceparent: str
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Make a call and return its response.

        Args:
            path: e.g. ``/v1/messages``.
            body: sent as JSON.
            traceparent: the trace it belongs to, ``""`` if none.

        Raises:
            KernelError: the proxy does not answer, or refuses the gateway a key.
        """
        sending = asyncio.create_task(self._send(path, body, traceparent))
        try:
            try:
                response = await asyncio.shield(sending)
            except asyncio.CancelledError:
                # The call is charged nevertheless; its id comes with the response headers.
                late = asyncio.create_task(_id_of(sending))
                self._late.setdefault(traceparent, []).append(late)
                raise
            try:
                yield response
            finally:
                response.close()
        except aiohttp.ClientConnectorError as error:
            raise KernelError(
                f"the proxy at {self._settings.proxy_url} does not answer: is it running?"
            ) from error
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise KernelError(
                f"the proxy at {self._settings.proxy_url} closed the connection: "
                f"{error or type(error).__name__}"
            ) from error

    async def usage(self, calls: Sequence[Call], traceparent: str) -> Usage:
        """Wait until calls are settled, and return what they used and cost.

        A call that can't be looked up is left out and logged.

        Args:
            calls: the calls.
            traceparent: their trace; calls of it that were cancelled early are included.
        """
        usage = Usage()
        total = Decimal(0)
        late = await asyncio.gather(*self._late.pop(traceparent, ()))
        ids = [call.id for call in calls] + [call_id for call_id in late if call_id]
        settled = await asyncio.gather(*(self._settled(call_id) for call_id in ids))
        for call_id, found in zip(ids, settled, strict=True):
            if found is None:
                _log.warning("call %s could not be looked up; its cost is not included", call_id)
                continue
            tokens = found["tokens"]
            tokens_in = tokens["input"] + tokens["cache_read"] + tokens["cache_write"]
            cost = Decimal(found["cost_usd"])
            before = usage.models.get(found["model"], (0, 0, "0"))
            usage.models[found["model"]] = (
                before[0] + tokens_in,
                before[1] + tokens["output"],
                f"{Decimal(before[2]) + cost:f}",
            )
            usage.tokens_in += tokens_in
            usage.tokens_out += tokens["output"]
            total += cost
        usage.cost_usd = f"{total:f}"
        return usage

    async def close(self) -> None:
        """Close connections."""
        for late in [task for tasks in self._late.values() for task in tasks]:
            late.cancel()
        if self._opened is not None:
            await self._opened.close()

    async def _send(self, path: str, body: Any, traceparent: str) -> aiohttp.ClientResponse:
        key = await self._have_key()
        response = await self._send_with(key, path, body, traceparent)
        if response.status == 401 and not self._settings.proxy_key:
            # The stored key was revoked, or the ledger is a new one.
            response.close()
            key = await self._have_key(instead_of=key)
            response = await self._send_with(key, path, body, traceparent)
        return response

    async def _send_with(
        self, key: str, path: str, body: Any, traceparent: str
    ) -> aiohttp.ClientResponse:
        headers = {"x-api-key": key, "anthropic-version": "2023-06-01"}
        if traceparent:
            headers["traceparent"] = traceparent
        url = f"{self._settings.proxy_url}{path}"
        return await self._session.post(url, json=body, headers=headers)

    async def _have_key(self, instead_of: str = "") -> str:
        """Return the gateway's key; request one if there is none, or it is ``instead_of``."""
        async with self._key_lock:
            if not self._key or self._key == instead_of:
                self._key = await self._new_key()
            return self._key

    async def _new_key(self) -> str:
        async with self._session.post(
            f"{self._settings.proxy_url}/api/keys",
            json={"user_id": self._settings.handle or "gateway"},
            headers={"authorization": f"Bearer {self._settings.admin_token}"},
        ) as response:
            if response.status != 201:
                raise KernelError(
                    f"the proxy refused the gateway a key ({response.status}); set "
                    "TELEMETRY_PROXY_KEY to a key made by `telemetry keys create`"
                )
            key = str((await response.json())["key"])
        try:
            await asyncio.to_thread(
                credentials.remember, self._settings.home, "TELEMETRY_PROXY_KEY", key
            )
        except TelemetryError as error:
            _log.warning(
                "the key at the proxy could not be stored for the next start: %s", error.message
            )
        return key

    async def _settled(self, call_id: str) -> dict[str, Any] | None:
        """Return a settled call from the ledger; None if it is unknown or not settled in time."""
        url = f"{self._settings.proxy_url}/api/calls/{call_id}"
        headers = {"x-api-key": self._key}
        try:
            async with asyncio.timeout(SETTLE_TIMEOUT_S):
                while True:
                    try:
                        async with self._session.get(url, headers=headers) as response:
                            if response.status in (401, 404):
                                return None
                            # The proxy waits up to 10 s before it answers "open".
                            if response.status == 200:
                                found: dict[str, Any] = await response.json()
                                if found["status"] != "open":
                                    return found
                    except (aiohttp.ClientError, OSError):
                        pass  # the proxy may be restarting; the ledger keeps the call
                    await asyncio.sleep(RETRY_S)
        except TimeoutError:
            return None


async def _id_of(sending: asyncio.Task[aiohttp.ClientResponse]) -> str:
    """Return the id of a cancelled call, "" if it got none."""
    try:
        async with asyncio.timeout(SETTLE_TIMEOUT_S):
            response = await sending
    except (TimeoutError, aiohttp.ClientError, OSError, KernelError):
        return ""
    response.close()
    return response.headers.get("x-telemetry-call-id", "")
