"""The admin page and its JSON: containers, today's costs, alerts."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from telemetry.services.http import HTTPError, asset_route, guarded, page_headers
from telemetry.services.login import Login
from telemetry.services.platform.api import Api
from telemetry.services.platform.proxy_keys import ProxyKeys
from telemetry.services.platform.settings import Settings
from telemetry.system import json_http
from telemetry.system.docker_engine import Engine
from telemetry.system.json_http import AnswerError

PAGES = Path(__file__).parent / "pages"
GATEWAY_TIMEOUT_S = 3.0


class Admin:
    """Routes below ``/admin``.

    Args:
        settings: the platform's settings.
        login: the log-in.
        engine: Docker.
        keys: the proxy's admin API, for costs.
        api: the API, for containers.
    """

    def __init__(
        self, settings: Settings, login: Login, engine: Engine, keys: ProxyKeys, api: Api
    ) -> None:
        self._settings = settings
        self._login = login
        self._engine = engine
        self._keys = keys
        self._api = api

    def routes(self) -> list[Route]:
        return [
            Route("/admin", self._page),
            *self._login.routes(),
            Route("/admin/dashboard", guarded(self._dashboard, self._login.check)),
            asset_route("/admin/pages", PAGES),
        ]

    async def _page(self, request: Request) -> Response:
        # Without data: its script gets them with the token of a log-in.
        return FileResponse(PAGES / "index.html", headers=page_headers())

    async def _dashboard(self, request: Request) -> Response:
        problem, (costs, no_costs), (alerts, no_alerts) = await asyncio.gather(
            asyncio.to_thread(self._engine.problem),
            asyncio.to_thread(self._costs),
            asyncio.to_thread(self._alerts),
        )
        containers = self._api.containers()
        for container in containers:
            handle = container["handle"]
            container["cost_today_usd"] = None if costs is None else costs.get(handle, 0.0)
        return JSONResponse(
            {
                "grafanaUrl": self._settings.grafana_url,
                "containers": containers,
                "costTodayUsd": None if costs is None else sum(costs.values()),
                "alerts": alerts,
                # Problems of the services that this page asks; "" if there is none.
                "problems": {"docker": problem, "costs": no_costs, "alerts": no_alerts},
            },
            headers={"cache-control": "no-store"},
        )

    def _costs(self) -> tuple[dict[str, float] | None, str]:
        if not self._settings.keys:
            return None, ""
        try:
            return self._keys.costs_today(), ""
        except HTTPError as problem:
            return None, problem.message

    def _alerts(self) -> tuple[list[dict[str, Any]], str]:
        url = f"{self._settings.gateway_url}/api/alerts"
        token = {"authorization": f"Bearer {self._settings.admin_token}"}
        try:
            answer = json_http.get_json(url, GATEWAY_TIMEOUT_S, token)
            alerts: list[dict[str, Any]] = answer["alerts"]
        except AnswerError as error:
            return [], f"the gateway at {self._settings.gateway_url} {error}"
        except (KeyError, TypeError):
            return [], f"what answers at {self._settings.gateway_url} is not the gateway"
        return alerts, ""
