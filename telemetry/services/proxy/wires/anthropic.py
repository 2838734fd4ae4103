"""Anthropic's Messages API.

Source: https://docs.claude.com/en/api/messages, /errors, /messages-streaming
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, ClassVar

from telemetry.services.proxy.pricing.usage import Tokens, from_anthropic
from telemetry.services.proxy.wires.base import (
    Ask,
    Context,
    Endpoint,
    EventStream,
    Wire,
    events,
    maximum,
    model_of,
    obj,
    reported,
    size,
)

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}

_NOTABLE = re.compile(rb'"usage"|"error"')
# In a line of its own, or as JSON: an answer whose text mentions it has its quotes and line ends
# escaped.
_END = re.compile(rb'^event: ?message_stop|"type"\s*:\s*"message_stop"', re.MULTILINE)


class AnthropicStream(EventStream):
    """``message_start`` reports the input, ``message_delta`` the output so far."""

    _final = False

    def _scan(self, whole: bytes) -> None:
        if _NOTABLE.search(whole):
            for event in events(whole, _NOTABLE):
                self._take(event)
        if b"message_stop" in whole and _END.search(whole):
            self.complete = True

    def _take(self, event: Mapping[str, Any]) -> None:
        kind = event.get("type")
        usage = None
        if kind == "message_start":
            usage = reported(obj(event.get("message")).get("usage"))
        elif kind == "message_delta":
            usage = reported(event.get("usage"))
            self._final = usage is not None
        elif kind == "error":
            self.failed = True
        if usage is not None:
            # Figures are cumulative; a later event leaves out what hasn't changed.
            known = {k: v for k, v in usage.items() if v is not None}
            self.usage = {**(self.usage or {}), **known}
            self.context = _context(self.usage)

    def _delta(self, event: Mapping[str, Any]) -> int:
        if event.get("type") != "content_block_delta":
            return -1
        delta = obj(event.get("delta"))
        return sum(size(delta.get(kind)) for kind in ("text", "thinking", "partial_json"))

    def tokens(self, input_estimate: int) -> tuple[Tokens, bool]:
        if self.usage is None:
            return Tokens(input=input_estimate, output=self.output_estimate()), True
        tokens = from_anthropic(self.usage)
        if self._final:
            return tokens, False
        tokens.output = max(tokens.output, self.output_estimate())
        return tokens, True


def _context(usage: Mapping[str, Any]) -> Context:
    """Read what the price depends on; requests and usage have the same names for it."""
    speed, geo = usage.get("speed"), usage.get("inference_geo")
    context: Context = ()
    if isinstance(speed, str) and speed != "standard":
        context += (("speed", speed),)
    if geo == "us":
        context += (("inference_geo", geo),)
    return context


class Anthropic(Wire):
    """Anthropic's format."""

    name = "anthropic"
    url = "https://api.anthropic.com/v1"
    url_env = "TELEMETRY_ANTHROPIC_URL"
    key_env = "ANTHROPIC_API_KEY"
    endpoints: ClassVar = {"/messages": "messages"}
    count_path = "/messages/count_tokens"
    marker = b"anthropic-version"
    models_query = "?limit=1000"

    def error(self, status: int, message: str, code: str = "") -> bytes:
        kind = _TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")
        return json.dumps({"type": "error", "error": {"type": kind, "message": message}}).encode()

    def error_event(self, message: str) -> bytes:
        return b"event: error\ndata: " + self.error(500, message) + b"\n\n"

    def authorization(self, key: str) -> dict[str, str]:
        return {"x-api-key": key}

    def read(self, endpoint: Endpoint, request: Mapping[str, Any]) -> Ask:
        return Ask(
            model=model_of(request),
            stream=request.get("stream") is True,
            max_output=maximum(request, "max_tokens"),
            choices=1,
            wants_usage=True,
            caches=True,
            context=_context(request),
        )

    def used(self, answer: Mapping[str, Any]) -> tuple[Tokens, Context] | None:
        usage = reported(answer.get("usage"))
        return None if usage is None else (from_anthropic(usage), _context(usage))

    def stream(self, endpoint: Endpoint, ask: Ask) -> EventStream:
        return AnthropicStream()

    def models(self, models: list[dict[str, Any]]) -> Mapping[str, Any]:
        ids = [model.get("id") for model in models]
        first, last = (ids[0], ids[-1]) if ids else (None, None)
        return {"data": models, "has_more": False, "first_id": first, "last_id": last}


ANTHROPIC = Anthropic()
