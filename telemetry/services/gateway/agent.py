"""The kernel that ships: an agent loop over the Anthropic Messages API, through the proxy.

The model is called with tools that read real metrics, logs and costs; what it asks for is
looked up and given back, until it answers or `max_turns` is reached.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp

from telemetry.services.gateway.kernel import Call, Event, KernelError, Request, Text, ToolUse
from telemetry.services.gateway.proxy_client import ProxyClient
from telemetry.services.gateway.settings import Settings
from telemetry.services.gateway.tools import Tools

KNOWLEDGE = Path(__file__).parent / "knowledge.md"
MAX_TOKENS = 4096


class Agent:
    """See the module.

    Args:
        settings: the gateway's.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._proxy = ProxyClient(settings)
        self._tools = Tools(settings)
        self._knowledge = (settings.knowledge or KNOWLEDGE).read_text()

    async def run(self, request: Request) -> AsyncIterator[Event]:
        messages: list[dict[str, Any]] = [
            {"role": role, "content": text} for role, text in request.history
        ]
        messages.append({"role": "user", "content": request.prompt})
        for _ in range(self._settings.max_turns):
            turn = _Turn()
            async for event in self._call(messages, request.traceparent, turn):
                yield event
            messages.append({"role": "assistant", "content": turn.content})
            uses = [block for block in turn.content if block["type"] == "tool_use"]
            if not uses:
                return
            for use in uses:
                yield ToolUse(use["name"])
            results = await asyncio.gather(
                *(self._tools.use(use["name"], use["input"], request.traceparent) for use in uses)
            )
            messages.append(
                {
                    "role": "user",
                    "content": [
                        {"type": "tool_result", "tool_use_id": use["id"], "content": result}
                        for use, result in zip(uses, results, strict=True)
                    ],
                }
            )
        raise KernelError(
            f"no answer after {self._settings.max_turns} model calls; "
            "ask for less at once, or raise TELEMETRY_GATEWAY_MAX_TURNS"
        )

    async def close(self) -> None:
        await self._proxy.close()
        await self._tools.close()

    async def _call(
        self, messages: list[dict[str, Any]], traceparent: str, turn: _Turn
    ) -> AsyncIterator[Event]:
        body = {
            "model": self._settings.model,
            "max_tokens": MAX_TOKENS,
            "stream": True,
            "system": self._knowledge,
            "tools": self._tools.schemas(),
            "messages": messages,
        }
        try:
            async with self._proxy.post("/v1/messages", body, traceparent) as response:
                if call_id := response.headers.get("x-telemetry-call-id"):
                    yield Call(call_id, self._settings.model)
                if response.status != 200:
                    raise KernelError(_why(response.status, await response.text()))
                async for data in _events(response.content):
                    piece = turn.take(data)
                    if piece:
                        yield Text(piece)
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise KernelError(
                f"the model can't be reached through the proxy at {self._settings.proxy_url}: "
                f"{error or type(error).__name__}"
            ) from error
        if not turn.ended:
            raise KernelError("the model's answer broke off")


class _Turn:
    """One assistant message, put together from its stream."""

    def __init__(self) -> None:
        self.content: list[dict[str, Any]] = []
        self.ended = False
        self._json = ""

    def take(self, data: dict[str, Any]) -> str:
        """Take an event; returns the text it adds."""
        kind = data.get("type")
        if kind == "content_block_start":
            block = data["content_block"]
            self._json = ""
            if block["type"] == "text":
                self.content.append({"type": "text", "text": block.get("text", "")})
            elif block["type"] == "tool_use":
                use = {"type": "tool_use", "id": block["id"], "name": block["name"], "input": {}}
                self.content.append(use)
            else:
                self.content.append(dict(block))
        elif kind == "content_block_delta":
            delta = data["delta"]
            if delta["type"] == "text_delta":
                self.content[-1]["text"] += delta["text"]
                return str(delta["text"])
            if delta["type"] == "input_json_delta":
                self._json += delta["partial_json"]
        elif kind == "content_block_stop":
            if self.content and self.content[-1]["type"] == "tool_use" and self._json:
                self.content[-1]["input"] = json.loads(self._json)
        elif kind == "message_stop":
            self.ended = True
        elif kind == "error":
            raise KernelError(f"the model failed: {data['error'].get('message', data['error'])}")
        return ""


async def _events(stream: aiohttp.StreamReader) -> AsyncIterator[dict[str, Any]]:
    """The JSON of each server-sent event."""
    data = b""
    async for line in stream:
        line = line.rstrip(b"\r\n")
        if line.startswith(b"data:"):
            data += line[5:].lstrip()
        elif not line and data:
            try:
                yield json.loads(data)
            except ValueError as error:
                raise KernelError("the model's answer was garbled") from error
            data = b""


def _why(status: int, body: str) -> str:
    try:
        message = json.loads(body)["error"]["message"]
    except (ValueError, KeyError, TypeError):
        message = body[:200]
    return f"the proxy answered {status}: {message}"
