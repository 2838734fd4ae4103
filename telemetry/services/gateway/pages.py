"""The gateway's pages: the shell, its log-in, the runbooks."""

from __future__ import annotations

import asyncio
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response

from telemetry.services.gateway.http import problem
from telemetry.services.login import Access

SHELL = Path(__file__).parent / "shell"
ASSETS = frozenset(path.name for path in SHELL.iterdir() if path.suffix in (".js", ".css"))
# Nothing from elsewhere, nothing inline: what a model or a log line says can't run here.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    # Not no-referrer: a form would then come with `Origin: null`.
    "referrer-policy": "same-origin",
    "cache-control": "no-cache",
}


class Pages:
    """Routes of what people see.

    Args:
        access: who may come in.
    """

    def __init__(self, access: Access) -> None:
        self._access = access

    async def shell(self, request: Request) -> Response:
        page = "index.html" if self._access.allowed(request) else "login.html"
        return FileResponse(SHELL / page, headers=HEADERS)

    async def asset(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in ASSETS:
            return problem(404, f"there is no {name}")
        return FileResponse(SHELL / name, headers=HEADERS)

    async def log_in(self, request: Request) -> Response:
        return await self._access.log_in(request, "/")

    async def log_out(self, request: Request) -> Response:
        if not self._access.same_origin(request):
            return problem(403, "this came from another site's page")
        return self._access.log_out("/")

    async def runbooks(self, request: Request) -> Response:
        from telemetry.services.gateway import runbooks

        page = await asyncio.to_thread(runbooks.page)
        policy = f"{POLICY}; style-src 'unsafe-inline'".replace("style-src 'self'; ", "")
        return HTMLResponse(page, headers={**HEADERS, "content-security-policy": policy})
