"""The gateway as a client of the proxy: its key, its calls, what they cost."""

from __future__ import annotations

import asyncio
import logging
from decimal import Decimal
from typing import Any

import aiohttp

from telemetry import credentials
from telemetry.services.gateway.kernel import Call, KernelError, Usage
from telemetry.services.gateway.settings import Settings

SETTLE_TIMEOUT_S = 90.0  # longer than the proxy drains an abandoned call
_log = logging.getLogger(__name__)


class ProxyClient:
    """Calls the proxy with the gateway's own key, asking for one the first time.

    Args:
        settings: the gateway's.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._key = settings.proxy_key
        self._key_lock = asyncio.Lock()
        self._session: aiohttp.ClientSession | None = None

    @property
    def session(self) -> aiohttp.ClientSession:
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=300)
            self._session = aiohttp.ClientSession(timeout=timeout)
        return self._session

    def post(self, path: str, body: Any, traceparent: str) -> _Post:
        """A call; `async with` its response."""
        return _Post(self, path, body, traceparent)

    async def key(self, *, fresh: bool = False) -> str:
        """The gateway's key.

        Raises:
            KernelError: the proxy gives none.
        """
        async with self._key_lock:
            if self._key and not fresh:
                return self._key
            user = self._settings.handle or "gateway"
            try:
                async with self.session.post(
                    f"{self._settings.proxy_url}/api/keys",
                    json={"user_id": user},
                    headers={"authorization": f"Bearer {self._settings.admin_token}"},
                ) as response:
                    if response.status != 201:
                        raise KernelError(
                            f"the proxy gave the gateway no key ({response.status}); set "
                            "TELEMETRY_PROXY_KEY to one of `telemetry keys create`"
                        )
                    self._key = (await response.json())["key"]
            except aiohttp.ClientError as error:
                raise KernelError(
                    f"the proxy at {self._settings.proxy_url} can't be reached: {error}"
                ) from error
            await asyncio.to_thread(
                credentials.remember, self._settings.home, "TELEMETRY_PROXY_KEY", self._key
            )
            return self._key

    async def usage(self, calls: list[Call]) -> Usage:
        """What calls used and cost, as the ledger settled them; waits for it. A call that can't
        be looked up is left out and said in the log."""
        usage = Usage()
        total = Decimal(0)
        for call in calls:
            settled = await self._settled(call)
            if settled is None:
                _log.warning("call %s could not be looked up; its cost is missing here", call.id)
                continue
            tokens = settled["tokens"]
            tokens_in = tokens["input"] + tokens.get("cache_read", 0) + tokens.get("cache_write", 0)
            tokens_out = tokens["output"]
            cost = Decimal(settled["cost_usd"] or "0")
            before = usage.models.get(settled["model"], (0, 0, "0"))
            usage.models[settled["model"]] = (
                before[0] + tokens_in,
                before[1] + tokens_out,
                str(Decimal(before[2]) + cost),
            )
            usage.tokens_in += tokens_in
            usage.tokens_out += tokens_out
            total += cost
        usage.cost_usd = f"{total:f}"
        return usage

    async def _settled(self, call: Call) -> dict[str, Any] | None:
        deadline = asyncio.get_running_loop().time() + SETTLE_TIMEOUT_S
        url = f"{self._settings.proxy_url}/api/calls/{call.id}"
        while asyncio.get_running_loop().time() < deadline:
            try:
                headers = {"authorization": f"Bearer {await self.key()}"}
                async with self.session.get(url, headers=headers) as response:
                    if response.status == 404:
                        return None
                    if response.status == 200:
                        found: dict[str, Any] = await response.json()
                        if found["status"] not in ("open", "reserved"):
                            return found
            except (TimeoutError, aiohttp.ClientError, KernelError):
                await asyncio.sleep(0.5)
        return None

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()


class _Post:
    def __init__(self, client: ProxyClient, path: str, body: Any, traceparent: str) -> None:
        self._client, self._path, self._body = client, path, body
        self._traceparent = traceparent
        self._response: aiohttp.ClientResponse | None = None

    async def __aenter__(self) -> aiohttp.ClientResponse:
        response = await self._send(await self._client.key())
        if response.status == 401 and not self._client._settings.proxy_key:
            # The kept key was revoked, or the ledger is a new one.
            response.release()
            response = await self._send(await self._client.key(fresh=True))
        self._response = response
        return response

    async def __aexit__(self, *exc: object) -> None:
        if self._response is not None:
            self._response.close()

    async def _send(self, key: str) -> aiohttp.ClientResponse:
        headers = {"x-api-key": key, "anthropic-version": "2023-06-01"}
        if self._traceparent:
            headers["traceparent"] = self._traceparent
        return await self._client.session.post(
            f"{self._client._settings.proxy_url}{self._path}", json=self._body, headers=headers
        )
