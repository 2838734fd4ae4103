"""Forward a container's model calls to the proxy, and nothing else of the proxy's."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator

import aiohttp
from aiohttp import web
from multidict import CIMultiDictProxy

from telemetry.services.http import HTTPError, error_body
from telemetry.services.platform.relay.notices import Notices
from telemetry.services.platform.relay.replies import unavailable

# No part may begin with a dot: v1/../api/keys must not match.
PATHS = re.compile(r"/proxy/(v1(/[\w:@~-][\w.:@~-]*)+|api/calls/[\w-]+)", re.ASCII)
# In which a client must send or read something. Not for the model, which may think longer.
STALL_S = 60
# https://datatracker.ietf.org/doc/html/rfc9110#section-7.6.1
_HOP_BY_HOP = {"connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"}
_HOP_BY_HOP |= {"host", "proxy-authenticate", "proxy-authorization"}


class ModelCalls:
    """The relay's way to the proxy.

    Args:
        proxy_url: the proxy's address.
        session: the client to forward with.
    """

    def __init__(self, proxy_url: str, session: aiohttp.ClientSession) -> None:
        self._proxy_url = proxy_url
        self._session = session
        self._notices = Notices(logging.getLogger(__name__))

    async def forward(self, request: web.BaseRequest, path: str) -> web.StreamResponse:
        """Answer one request with the proxy's answer.

        Args:
            request: the container's.
            path: the proxy's path, without the first slash.
        """
        response: web.StreamResponse | None = None
        upload = _Upload(request)
        try:
            async with self._session.request(
                request.method,
                f"{self._proxy_url}/{path}",
                params=request.query,
                headers=_forwarded(request.headers),
                data=upload.chunks() if request.can_read_body else None,
                allow_redirects=False,
            ) as answer:
                response = web.StreamResponse(
                    status=answer.status, headers=_forwarded(answer.headers)
                )
                await response.prepare(request)
                await _copy(answer, response, request)
                return response
        except (aiohttp.ClientError, TimeoutError) as error:
            if response is not None:
                raise  # break the connection, so that the client sees the answer is incomplete
            if upload.problem is not None:
                said = error_body(upload.problem.message, upload.problem.remedy)
                return web.json_response(said, status=upload.problem.status)
            return unavailable("proxy", error, self._notices)


class _Upload:
    """A request's body.

    Args:
        request: the container's.
    """

    def __init__(self, request: web.BaseRequest) -> None:
        self._content = request.content
        self.problem: HTTPError | None = None

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes; ends with an error if it doesn't."""
        try:
            while True:
                async with asyncio.timeout(STALL_S):
                    chunk = await self._content.readany()
                if not chunk:
                    return
                yield chunk
        except TimeoutError:
            said = f"no byte of the body came for {STALL_S} s"
            self.problem = HTTPError(408, said, "send it again")
            raise
        except web.RequestPayloadError as error:
            self.problem = HTTPError(400, f"the body is not what its headers say: {error}")
            raise


async def _copy(
    answer: aiohttp.ClientResponse, response: web.StreamResponse, request: web.BaseRequest
) -> None:
    """Send the proxy's answer, until it ends or the client stops reading."""
    async for chunk in answer.content.iter_any():
        try:
            async with asyncio.timeout(STALL_S):
                await response.write(chunk)
        except TimeoutError:
            if request.transport is not None:
                request.transport.abort()  # `close` would wait for the client to read
            return
    await response.write_eof()


def _forwarded(headers: CIMultiDictProxy[str]) -> list[tuple[str, str]]:
    named = ",".join(headers.getall("connection", ())).lower().split(",")
    dropped = _HOP_BY_HOP.union(name.strip() for name in named)
    return [(name, value) for name, value in headers.items() if name.lower() not in dropped]
