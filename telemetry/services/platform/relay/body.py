"""Read an OTLP request's body: uncompressed, bounded, by a deadline."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator

from aiohttp import web

from telemetry.services.http import HTTPError
from telemetry.services.platform.relay.admission import Lease, Refused

DEADLINE_S = 30  # for the whole body; SDKs give up after 10 s
# Decompressed at a time: less than a millisecond, so that the event loop can serve others.
PIECE_BYTES = 256 << 10


async def read(request: web.BaseRequest, lease: Lease) -> bytes:
    """Read a body and decompress it.

    Raises:
        HTTPError: its content-encoding is unknown, or it is not what it says.
        Refused: it is too large, or doesn't come in time.
    """
    body = bytearray()
    try:
        async with asyncio.timeout(DEADLINE_S):
            async for piece in _pieces(request):
                lease.grow(len(piece))
                body += piece
    except web.RequestPayloadError as error:
        raise HTTPError(400, f"the body is not what its headers say: {error}") from error
    except TimeoutError:
        raise Refused(
            "time", 408, f"the body did not arrive within {DEADLINE_S} s", "send less at once"
        ) from None
    return bytes(body)


async def _pieces(request: web.BaseRequest) -> AsyncIterator[bytes]:
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding == "identity":
        async for chunk in request.content.iter_any():
            yield chunk
        return
    if encoding not in ("gzip", "deflate"):
        raise HTTPError(
            415, f"the relay does not know content-encoding {encoding!r}", "use gzip, or none"
        )
    decompressor = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)  # either format, by its header
    try:
        async for chunk in request.content.iter_any():
            while chunk:
                yield decompressor.decompress(chunk, PIECE_BYTES)
                await asyncio.sleep(0)
                if decompressor.unused_data:
                    raise HTTPError(400, f"bytes follow the end of the {encoding} body")
                chunk = decompressor.unconsumed_tail
        while tail := decompressor.decompress(b"", PIECE_BYTES):
            yield tail
    except zlib.error as error:
        raise HTTPError(400, f"the body is not {encoding}: {error}") from error
    if not decompressor.eof:
        raise HTTPError(400, f"the {encoding} body is incomplete")
