"""The gateway's pages: the web shell, its log-in, the runbooks."""

from __future__ import annotations

import asyncio
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.routing import Route

from telemetry.services.http import asset_route, page_headers
from telemetry.services.login import Login

SHELL = Path(__file__).parent / "shell"


class Pages:
    """Routes of the pages.

    Args:
        login: the log-in.
    """

    def __init__(self, login: Login) -> None:
        self._login = login

    def routes(self) -> list[Route]:
        return [
            Route("/", self._shell),
            asset_route("/shell", SHELL),
            *self._login.routes(),
            Route("/runbooks", self._runbooks),
        ]

    async def _shell(self, request: Request) -> Response:
        # Without data: its script gets them with the token of a log-in.
        return FileResponse(SHELL / "index.html", headers=page_headers())

    async def _runbooks(self, request: Request) -> Response:
        from telemetry.services.gateway import runbooks

        page = await asyncio.to_thread(runbooks.page)
        return HTMLResponse(page, headers=page_headers(style_src="'unsafe-inline'"))
