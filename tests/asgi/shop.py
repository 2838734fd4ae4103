"""A small app with one route for each kind of response."""

from __future__ import annotations

from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

import telemetry


async def hello(request: Request) -> Response:
    return PlainTextResponse("hello")


async def broken(request: Request) -> Response:
    raise LookupError("no such thing")


async def refusing(request: Request) -> Response:
    return PlainTextResponse("later", status_code=503)


async def torn(request: Request) -> Response:
    async def chunks() -> Any:
        yield b"first"
        raise ValueError("the rest is gone")

    return StreamingResponse(chunks())


def shop() -> Any:
    return telemetry.instrument(
        Starlette(
            routes=[
                Route("/items/{id:int}", hello),
                Route("/broken", broken),
                Route("/refusing", refusing),
                Route("/torn", torn),
            ]
        )
    )
