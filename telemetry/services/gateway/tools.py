"""The model's tools: metrics, logs, costs and containers, read only."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import aiohttp

from telemetry.services.gateway.settings import Settings
from telemetry.system.tls import client_context

TIMEOUT_S = 15.0
RESULT_CHARS = 8000  # of one result; chosen by judgement, not measured
LOG_LIMIT = 50

SCHEMAS: list[dict[str, Any]] = [
    {
        "name": "container_status",
        "description": "State of one container: whether it is up, CPU, memory and its limit, "
        "restarts, OOM kills, health. Without a handle: all containers.",
        "input_schema": {
            "type": "object",
            "properties": {"handle": {"type": "string", "description": "the container's handle"}},
        },
    },
    {
        "name": "query_metrics",
        "description": "Evaluate a PromQL expression now; returns each series with its value.",
        "input_schema": {
            "type": "object",
            "properties": {"promql": {"type": "string", "description": "an expression"}},
            "required": ["promql"],
        },
    },
    {
        "name": "search_logs",
        "description": "Find the newest log lines of a LogQL query.",
        "input_schema": {
            "type": "object",
            "properties": {
                "logql": {"type": "string", "description": 'e.g. {handle="demo-1"} |= "failed"'},
                "minutes": {"type": "integer", "description": "how far back (default: 60)"},
            },
            "required": ["logql"],
        },
    },
    {
        "name": "costs",
        "description": "Cost of model calls since midnight UTC, by user and model, from the "
        "ledger.",
        "input_schema": {
            "type": "object",
            "properties": {"user": {"type": "string", "description": "one user only"}},
        },
    },
]

_STATUS = {
    "up": "platform_container_up",
    "healthy": "platform_container_healthy",
    "cpu_percent": "platform_container_cpu_percent",
    "memory_bytes": "platform_container_memory_bytes",
    "memory_limit_bytes": "platform_container_memory_limit_bytes",
    "restarts": "platform_container_restarts_total",
    "oom_kills": "platform_container_oom_kills_total",
}


class Tools:
    """Runs tools against Prometheus, Loki and the proxy.

    Args:
        settings: the gateway's settings.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._session: aiohttp.ClientSession | None = None
        self._tools = {
            "container_status": self._container_status,
            "query_metrics": self._query_metrics,
            "search_logs": self._search_logs,
            "costs": self._costs,
        }

    async def use(self, name: str, given: dict[str, Any]) -> str:
        """Return a tool's result as text; errors are returned to the model, which can try again."""
        tool = self._tools.get(name)
        if tool is None:
            return f"error: there is no tool {name!r}"
        try:
            result = await tool(given)
        except aiohttp.ClientConnectorError as error:
            return f"error: {name} can't reach {error.host}:{error.port}: it is not running"
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            return f"error: {name} got no answer: {error or type(error).__name__}"
        except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
            return f"error: {name} can't use {given!r}: {error}"
        text = json.dumps(result, ensure_ascii=False)
        if len(text) > RESULT_CHARS:
            text = f"{text[:RESULT_CHARS]} … (cut; ask for less)"
        return text

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def _container_status(self, given: dict[str, Any]) -> Any:
        handle = str(given.get("handle") or "")
        matcher = f'{{handle="{_quoted(handle)}"}}' if handle else ""
        names = list(_STATUS)
        results = await asyncio.gather(*(self._query(_STATUS[n] + matcher) for n in names))
        containers: dict[str, dict[str, Any]] = {}
        for name, found in zip(names, results, strict=True):
            for series in found:
                who = series["metric"].get("handle", "")
                containers.setdefault(who, {"handle": who})[name] = _number(series["value"][1])
        if handle and handle not in containers:
            return {"handle": handle, "found": False}
        return containers[handle] if handle else list(containers.values())

    async def _query_metrics(self, given: dict[str, Any]) -> Any:
        found = await self._query(str(given["promql"]))
        return [{"labels": s["metric"], "value": _number(s["value"][1])} for s in found]

    async def _search_logs(self, given: dict[str, Any]) -> Any:
        minutes = int(given.get("minutes") or 60)
        params = {
            "query": str(given["logql"]),
            "limit": LOG_LIMIT,
            "start": time.time_ns() - minutes * 60 * 10**9,
            "direction": "backward",
        }
        data = await self._get(f"{self._settings.loki_url}/loki/api/v1/query_range", params)
        lines = [
            (int(at), line, stream["stream"].get("level", ""))
            for stream in data["data"]["result"]
            for at, line, *_ in stream["values"]
        ]
        return [
            {"time": _utc(at), "level": level, "line": line}
            for at, line, level in sorted(lines, reverse=True)[:LOG_LIMIT]
        ]

    async def _costs(self, given: dict[str, Any]) -> Any:
        params = {"since": "today"}
        if given.get("user"):
            params["user"] = str(given["user"])
        return await self._get(
            f"{self._settings.proxy_url}/api/costs",
            params,
            {"authorization": f"Bearer {self._settings.admin_token}"},
        )

    async def _query(self, promql: str) -> list[dict[str, Any]]:
        url = f"{self._settings.prometheus_url}/api/v1/query"
        data = await self._get(url, {"query": promql})
        found: list[dict[str, Any]] = data["data"]["result"]
        return found

    async def _get(
        self, url: str, params: dict[str, Any], headers: dict[str, str] | None = None
    ) -> Any:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=client_context(self._settings.tls)),
                timeout=aiohttp.ClientTimeout(total=TIMEOUT_S),
            )
        async with self._session.get(url, params=params, headers=headers) as response:
            if response.status >= 400:
                raise ValueError(f"{response.status} {(await response.text())[:300]}")
            return await response.json(content_type=None)


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")


def _number(text: str) -> float | int | str:
    try:
        value = float(text)
    except ValueError:
        return text
    return int(value) if value.is_integer() else value


def _utc(ns: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(ns / 1e9))
