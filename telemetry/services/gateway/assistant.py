"""The default kernel: a model loop over the Anthropic Messages API, through the proxy.

The model is called with tools that read real metrics, logs and costs. The assistant runs the tools
it asks for and returns their results to it, until it answers or `max_turns` is reached.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp

from telemetry.errors import ConfigError
from telemetry.services.gateway.kernel import Call, Event, KernelError, Request, Text, ToolUse
from telemetry.services.gateway.proxy_client import ProxyClient
from telemetry.services.gateway.settings import Settings
from telemetry.services.gateway.tools import SCHEMAS, Tools

KNOWLEDGE = Path(__file__).parent / "knowledge.md"
MAX_TOKENS = 4096
MALFORMED = "the model's answer is malformed"


class Assistant:
    """A `Kernel` with tools; see the module.

    Args:
        settings: the gateway's settings.
        proxy: calls the model.

    Raises:
        ConfigError: the knowledge file can't be read.
    """

    def __init__(self, settings: Settings, proxy: ProxyClient) -> None:
        self._settings = settings
        self._proxy = proxy
        self._tools = Tools(settings)
        path = settings.knowledge or KNOWLEDGE
        try:
            self._knowledge = path.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError("TELEMETRY_KNOWLEDGE", str(path), "a readable text file") from error
        if settings.handle:
            self._knowledge += (
                f"\nYou run in container {settings.handle}: `my container` is this one.\n"
            )

    async def run(self, request: Request) -> AsyncGenerator[Event, None]:
        messages: list[dict[str, Any]] = [
            {"role": role, "content": text} for role, text in request.history
        ]
        messages.append({"role": "user", "content": request.prompt})
        for _ in range(self._settings.max_turns):
            turn = _Turn()
            async for event in self._call(messages, request.traceparent, turn):
                yield event
            uses = [block for block in turn.content if block["type"] == "tool_use"]
            if not uses:
                return
            # The API may send an empty text block, but does not accept one.
            said = [block for block in turn.content if block.get("text") != ""]
            messages.append({"role": "assistant", "content": said})
            for use in uses:
                yield ToolUse(use["name"])
            results = await asyncio.gather(
                *(self._tools.use(use["name"], use["input"]) for use in uses)
            )
            found = [
                {"type": "tool_result", "tool_use_id": use["id"], "content": result}
                for use, result in zip(uses, results, strict=True)
            ]
            messages.append({"role": "user", "content": found})
            if any(block.get("text") for block in turn.content):
                yield Text("\n\n")  # separates the texts before and after the tools
        raise KernelError(
            f"no answer after {self._settings.max_turns} model calls; "
            "ask a simpler question, or raise TELEMETRY_GATEWAY_MAX_TURNS"
        )

    async def close(self) -> None:
        await self._tools.close()

    async def _call(
        self, messages: list[dict[str, Any]], traceparent: str, turn: _Turn
    ) -> AsyncIterator[Event]:
        body = {
            "model": self._settings.model,
            "max_tokens": MAX_TOKENS,
            "stream": True,
            "system": self._knowledge,
            "tools": SCHEMAS,
            "messages": messages,
        }
        async with self._proxy.post("/v1/messages", body, traceparent) as response:
            if call_id := response.headers.get("x-telemetry-call-id"):
                yield Call(call_id, self._settings.model)
            if response.status != 200:
                raise KernelError(_proxy_error(response.status, await response.text()))
            async for data in _events(response.content):
                try:
                    piece = turn.add(data)
                except (
                    KeyError,
                    IndexError,
                    TypeError,
                    ValueError,
                    RecursionError,
                    AttributeError,
                ) as error:
                    raise KernelError(MALFORMED) from error
                if piece:
                    yield Text(piece)
        if not turn.ended:
            raise KernelError("the model's answer ended early")


class _Turn:
    """One message of the model, assembled from its stream."""

    def __init__(self) -> None:
        self.content: list[dict[str, Any]] = []
        self.ended = False
        self._json = ""

    def add(self, data: dict[str, Any]) -> str:
        """Add an event; returns the text it adds."""
        kind = data["type"]
        if kind == "content_block_start":
            self._json = ""
            self.content.append(dict(data["content_block"]))
            return str(self.content[-1].get("text", ""))
        if kind == "content_block_delta":
            delta = data["delta"]
            if delta["type"] == "text_delta":
                self.content[-1]["text"] += delta["text"]
                return str(delta["text"])
            if delta["type"] == "input_json_delta":
                self._json += delta["partial_json"]
        elif kind == "content_block_stop" and self._json:
            self.content[-1]["input"] = json.loads(self._json)
        elif kind == "message_delta" and data["delta"].get("stop_reason") == "max_tokens":
            raise KernelError(f"the model's answer was longer than {MAX_TOKENS} tokens")
        elif kind == "message_stop":
            self.ended = True
        elif kind == "error":
            raise KernelError(f"the model failed: {data['error']['message']}")
        return ""


async def _events(stream: aiohttp.StreamReader) -> AsyncIterator[dict[str, Any]]:
    """Yield the JSON of each server-sent event."""
    data = b""
    try:
        async for line in stream:
            line = line.rstrip(b"\r\n")
            if line.startswith(b"data:"):
                data += line[5:].lstrip()
            elif not line and data:
                yield json.loads(data)
                data = b""
    except (ValueError, RecursionError) as error:  # not JSON, or a line that is too long
        raise KernelError(MALFORMED) from error


def _proxy_error(status: int, body: str) -> str:
    try:
        message = json.loads(body)["error"]["message"]
    except (ValueError, RecursionError, KeyError, TypeError):
        message = body[:200]
    return f"the proxy answered {status}: {message}"
