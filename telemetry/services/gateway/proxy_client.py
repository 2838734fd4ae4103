"""The gateway as a client of the proxy: its key, its calls, what they cost."""

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

SETTLE_TIMEOUT_S = 90.0  # longer than the proxy drains an abandoned call
RETRY_S = 0.5
_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=300)
_log = logging.getLogger(__name__)


@dataclass
class Usage:
    """What calls used, as the ledger settled them."""

    tokens_in: int = 0
    tokens_out: int = 0
    cost_usd: str = "0"
    models: dict[str, tuple[int, int, str]] = field(default_factory=dict)
    """By model: tokens in, tokens out, cost in USD."""


class ProxyClient:
    """Calls the proxy with the gateway's own key, asking for one the first time.

    Args:
        settings: the gateway's.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._key = settings.proxy_key or settings.kept_proxy_key
        self._key_lock = asyncio.Lock()
        self._opened: aiohttp.ClientSession | None = None
        self._late: dict[str, list[asyncio.Task[str]]] = {}
        """By traceparent: ids to come, of calls cancelled before they answered."""

    @property
    def _session(self) -> aiohttp.ClientSession:
        if self._opened is None:
            self._opened = aiohttp.ClientSession(timeout=_TIMEOUT)
        return self._opened

    @asynccontextmanager
    async def post(
        self, path: str, body: Any, traceparent: str
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """A call and its response.

        Args:
            path: e.g. ``/v1/messages``.
            body: sent as JSON.
            traceparent: the trace it belongs to, ``""`` for none.

        Raises:
            KernelError: the proxy can't be reached, or gives the gateway no key.
        """
        sending = asyncio.create_task(self._send(path, body, traceparent))
        try:
            try:
                response = await asyncio.shield(sending)
            except asyncio.CancelledError:
                # It is charged all the same; its id comes with the answer's first byte.
                late = asyncio.create_task(_id_of(sending))
                self._late.setdefault(traceparent, []).append(late)
                raise
            try:
                yield response
            finally:
                response.close()
        except aiohttp.ClientConnectorError as error:
            raise KernelError(
                f"the proxy at {self._settings.proxy_url} can't be reached: is it running?"
            ) from error
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise KernelError(
                f"the proxy at {self._settings.proxy_url} broke off: "
                f"{error or type(error).__name__}"
            ) from error

    async def usage(self, calls: Sequence[Call], traceparent: str) -> Usage:
        """What calls used and cost, as the ledger settled them; waits for it. A call that can't
        be looked up is left out and said in the log.

        Args:
            calls: those that are known.
            traceparent: theirs; calls under it that were cancelled before they answered count too.
        """
        usage = Usage()
        total = Decimal(0)
        late = await asyncio.gather(*self._late.pop(traceparent, ()))
        ids = [call.id for call in calls] + [call_id for call_id in late if call_id]
        settled = await asyncio.gather(*(self._settled(call_id) for call_id in ids))
        for call_id, found in zip(ids, settled, strict=True):
            if found is None:
                _log.warning("call %s could not be looked up; its cost is missing here", call_id)
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
        """Let go of connections."""
        for late in [task for tasks in self._late.values() for task in tasks]:
            late.cancel()
        if self._opened is not None:
            await self._opened.close()

    async def _send(self, path: str, body: Any, traceparent: str) -> aiohttp.ClientResponse:
        key = await self._have_key()
        response = await self._send_with(key, path, body, traceparent)
        if response.status == 401 and not self._settings.proxy_key:
            # The kept key was revoked, or the ledger is a new one.
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
        """The gateway's key; a new one where it is ``instead_of`` or there is none."""
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
                    f"the proxy gave the gateway no key ({response.status}); set "
                    "TELEMETRY_PROXY_KEY to one of `telemetry keys create`"
                )
            key = str((await response.json())["key"])
        try:
            await asyncio.to_thread(
                credentials.remember, self._settings.home, "TELEMETRY_PROXY_KEY", key
            )
        except TelemetryError as error:
            _log.warning("the proxy's key is not kept for the next start: %s", error.message)
        return key

    async def _settled(self, call_id: str) -> dict[str, Any] | None:
        """The call from the ledger, None where it knows none or doesn't answer in time."""
        url = f"{self._settings.proxy_url}/api/calls/{call_id}"
        headers = {"x-api-key": self._key}
        try:
            async with asyncio.timeout(SETTLE_TIMEOUT_S):
                while True:
                    try:
                        async with self._session.get(url, headers=headers) as response:
                            if response.status in (401, 404):
                                return None
                            # The proxy waits some seconds for it before it says "open".
                            if response.status == 200:
                                found: dict[str, Any] = await response.json()
                                if found["status"] != "open":
                                    return found
                    except (aiohttp.ClientError, OSError):
                        pass  # it is being restarted, say; the ledger will know
                    await asyncio.sleep(RETRY_S)
        except TimeoutError:
            return None


async def _id_of(sending: asyncio.Task[aiohttp.ClientResponse]) -> str:
    """The id of a call that nobody waits for any more, "" where it has none."""
    try:
        async with asyncio.timeout(SETTLE_TIMEOUT_S):
            response = await sending
    except (TimeoutError, aiohttp.ClientError, OSError, KernelError):
        return ""
    response.close()
    return response.headers.get("x-telemetry-call-id", "")
