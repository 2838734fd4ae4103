"""Calling the providers: one aiohttp session, retries before the first byte, a fallback.

aiohttp, because httpx costs ten times its CPU under concurrency.
"""

from __future__ import annotations

import asyncio
import logging
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from telemetry.services.proxy.settings import Settings, Upstream
from telemetry.services.proxy.upstream.request import RawHeaders, UpstreamRequest

ErrorKind = Literal["connect", "timeout", "disconnected", "no_key", "key_refused"]

CALL_ID = b"x-telemetry-call-id"

# Ends at this hop, is ours and not the provider's business, or is set by the proxy.
_NOT_FORWARDED = frozenset(
    b"host content-length connection keep-alive te trailer transfer-encoding upgrade expect "
    b"proxy-authorization proxy-connection authorization x-api-key cookie accept-encoding "
    b"traceparent tracestate baggage forwarded x-forwarded-for x-forwarded-host "
    b"x-forwarded-proto x-real-ip via".split()
)
# The server sets its own date and name; a provider's cookies are for us alone.
_NOT_RETURNED = frozenset(
    b"connection keep-alive te trailer transfer-encoding upgrade date server set-cookie "
    b"proxy-authenticate content-length".split()
) | {CALL_ID}
RETRIED = frozenset((502, 503, 504, 529))
_BACKOFF_S = 0.25
# aiohttp reads a timeout of 0 as no limit; uvloop's clock counts milliseconds.
_LEAST_S = 0.001
# Characters that a query keeps; all others, line ends above all, are quoted.
_QUERY = string.punctuation.replace("#", "")
# A provider that names a longer time means it: its answer goes to the client.
_LONGEST_RETRY_AFTER_S = 1.0

_log = logging.getLogger(__name__)


@dataclass
class UpstreamError(Exception):
    """No upstream answered.

    Args:
        upstream: the last one tried.
        kind: what went wrong.
        status: the HTTP status for the client.
        message: the message for the client.
    """

    upstream: Upstream
    kind: ErrorKind
    status: int
    message: str


class Upstreams:
    """Send requests to the providers.

    Args:
        settings: timeouts, retries, addresses.
        failed: called with an upstream's name and the kind of its failure before each fallback.
    """

    def __init__(self, settings: Settings, failed: Callable[[str, str], None]) -> None:
        self._settings = settings
        self._failed = failed
        self._urls: dict[tuple[str, str], URL] = {}
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Open the session, in the event loop that will use it."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=30.0, ttl_dns_cache=60),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
        )

    async def close(self) -> None:
        """Close all connections."""
        if self._session:
            await self._session.close()

    async def call(
        self, first: Upstream, request: UpstreamRequest
    ) -> tuple[Upstream, aiohttp.ClientResponse]:
        """Return the first upstream that answers and its response, whose body is yet to be read.

        Args:
            first: where to try first.
            request: what is sent, there and to its fallbacks.

        Raises:
            UpstreamError: no upstream answered.
        """
        loop = asyncio.get_running_loop()
        ends = loop.time() + self._settings.total_timeout_s
        upstream = first
        seen = {first.name}
        while True:
            other = self._settings.upstream(upstream.fallback) if upstream.fallback else None
            last = other is None or other.name in seen
            try:
                response = await self._try(upstream, request, ends)
                if last or response.status not in RETRIED:
                    return upstream, response
                response.close()
                kind = f"http_{response.status}"
            except UpstreamError as error:
                # The session's clock may be a rounding error ahead of the loop's.
                if last or ends - loop.time() <= _LEAST_S:
                    raise
                kind = error.kind
            assert other is not None
            self._failed(upstream.name, kind)
            _log.warning("upstream %s: %s; trying %s", upstream.name, kind, other.name)
            seen.add(other.name)
            upstream = other

    async def _try(
        self, upstream: Upstream, request: UpstreamRequest, ends: float
    ) -> aiohttp.ClientResponse:
        if not upstream.key and upstream.needs_key:
            raise _no_key(upstream)
        headers = _forwarded(request.headers)
        if upstream.key:
            headers.update(request.wire.authorization(upstream.key))
        url = self._url(upstream, request.path)
        for tries_left in reversed(range(self._settings.retries + 1)):
            try:
                response = await self._send(request, url, headers, ends)
            except (aiohttp.ClientError, TimeoutError) as error:
                if tries_left and not isinstance(error, TimeoutError):
                    await asyncio.sleep(_BACKOFF_S)
                    continue
                raise _unreachable(upstream, error) from error
            if response.status == 401:
                response.close()
                raise _key_refused(upstream)
            if tries_left and response.status in RETRIED and _soon(response):
                response.close()
                await asyncio.sleep(_BACKOFF_S)
                continue
            return response
        raise AssertionError("the last try returns or raises")

    def _url(self, upstream: Upstream, path: str) -> URL:
        key = (upstream.name, path)
        url = self._urls.get(key)
        if url is None:
            url = URL(upstream.url + path, encoded=True)
            if len(self._urls) < 1000:
                self._urls[key] = url
        return url

    async def _send(
        self, request: UpstreamRequest, url: URL, headers: CIMultiDict[str], ends: float
    ) -> aiohttp.ClientResponse:
        assert self._session is not None, "open() comes first"
        left_s = ends - asyncio.get_running_loop().time()
        timeout = aiohttp.ClientTimeout(
            total=max(left_s, _LEAST_S),
            sock_connect=self._settings.connect_timeout_s,
            sock_read=None if request.whole else self._settings.read_timeout_s,
        )
        return await self._session.request(
            request.method,
            url,
            data=request.body or None,
            headers=headers,
            allow_redirects=False,
            timeout=timeout,
        )


def _forwarded(headers: RawHeaders) -> CIMultiDict[str]:
    sent = CIMultiDict(
        [
            (name.decode("latin-1"), value.decode("latin-1"))
            for name, value in headers
            if name not in _NOT_FORWARDED
        ]
    )
    # Usage has to be read from the answer as it passes.
    sent["accept-encoding"] = "identity"
    return sent


def returned(response: aiohttp.ClientResponse) -> list[tuple[bytes, bytes]]:
    """Return the provider's headers for the client, without the body's length."""
    found = [(name.lower(), value) for name, value in response.raw_headers]
    return [pair for pair in found if pair[0] not in _NOT_RETURNED]


def _soon(response: aiohttp.ClientResponse) -> bool:
    text = response.headers.get("retry-after")
    if text is None:
        return True
    try:
        return float(text) <= _LONGEST_RETRY_AFTER_S
    except ValueError:
        return False


def _no_key(upstream: Upstream) -> UpstreamError:
    variable = upstream.key_env or "key_env of that upstream"
    message = (
        f"this proxy has no key for {upstream.name}: its operator must set {variable} "
        "in its environment"
    )
    return UpstreamError(upstream, "no_key", 503, message)


def _key_refused(upstream: Upstream) -> UpstreamError:
    message = (
        f"{upstream.name} refused this proxy's own key: its operator must check "
        f"{upstream.key_env or 'its key'}"
    )
    return UpstreamError(upstream, "key_refused", 502, message)


def _unreachable(upstream: Upstream, error: Exception) -> UpstreamError:
    name = upstream.name
    if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
        return UpstreamError(
            upstream, "connect", 502, f"{name} can't be reached: try again in a moment"
        )
    if isinstance(error, TimeoutError):
        return UpstreamError(
            upstream, "timeout", 504, f"{name} did not answer in time: try again, or a shorter call"
        )
    return UpstreamError(
        upstream, "disconnected", 502, f"{name} closed the connection: try again in a moment"
    )


def query_of(query: bytes) -> str:
    """Return a request's query as it follows an upstream's path, ``""`` for none."""
    return "?" + quote(query, safe=_QUERY) if query else ""


def header(headers: Sequence[tuple[bytes, bytes]], name: bytes) -> str:
    """Return a header of a request, ``""`` if it is missing."""
    for key, value in headers:
        if key == name:
            return value.decode("latin-1")
    return ""
