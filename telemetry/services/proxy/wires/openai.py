"""OpenAI's chat completions, responses and embeddings.

Source: https://platform.openai.com/docs/api-reference
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from telemetry.services.proxy.usage import Tokens, from_openai
from telemetry.services.proxy.wires.base import (
    Ask,
    AskError,
    Context,
    Endpoint,
    EventStream,
    Wire,
    events,
    maximum,
    model_of,
)

_TYPES = {
    401: ("invalid_request_error", "invalid_api_key"),
    404: ("invalid_request_error", "model_not_found"),
    429: ("requests", "rate_limit_exceeded"),
}
_USAGE = re.compile(rb'"usage"\s*:\s*\{')
_NO_CHOICES = re.compile(rb'"choices"\s*:\s*\[\s*\]')
_OPEN_BRACE = re.compile(rb"\s*\{")
_ENDS = frozenset(("response.completed", "response.incomplete"))


class _Stream(EventStream):
    def tokens(self, input_estimate: int) -> tuple[Tokens, bool]:
        if self.usage is not None:
            return from_openai(self.usage), False
        return Tokens(input=input_estimate, output=self.output_estimate()), True


class ChatStream(_Stream):
    """Usage comes in a last event without choices, asked for by ``include_usage``.

    Args:
        hide: whether the client didn't ask for it and must not see it.
    """

    def __init__(self, hide: bool) -> None:
        super().__init__()
        self._hide = hide

    def _scan(self, whole: bytes) -> None:
        if _USAGE.search(whole) or b'"error"' in whole:
            for event in events(whole):
                usage = event.get("usage")
                if isinstance(usage, dict):
                    self.usage = usage
                    self.context = _context(event)
                if event.get("error"):
                    self.failed = True
        if b"[DONE]" in whole:
            self.complete = True

    def _delta(self, event: Mapping[str, Any]) -> int:
        chars = -1
        for choice in event.get("choices") or ():
            delta = choice.get("delta") or {}
            text = delta.get("content") or delta.get("reasoning_content") or ""
            for call in delta.get("tool_calls") or ():
                text += (call.get("function") or {}).get("arguments") or ""
            if text:
                chars = max(chars, 0) + len(text)
        return chars

    def _forward(self, chunk: bytes, whole: bytes) -> bytes:
        return _hidden(whole) if self._hide else chunk

    def _forward_rest(self, rest: bytes) -> bytes:
        return _hidden(rest) if self._hide else b""


def _hidden(whole: bytes) -> bytes:
    """Whole events as they would be had nobody asked for usage."""
    if b'"usage"' not in whole:
        return whole
    whole = whole.replace(b',"usage":null}\n\n', b"}\n\n")
    if not _USAGE.search(whole):
        return whole
    separator = b"\n\n" if b"\n\n" in whole else b"\r\n\r\n"
    kept = [
        event
        for event in whole.split(separator)
        if not (_USAGE.search(event) and _NO_CHOICES.search(event))
    ]
    return separator.join(kept)


class ResponsesStream(_Stream):
    """The responses API reports usage in its last event."""

    def _scan(self, whole: bytes) -> None:
        if not (_USAGE.search(whole) or b'"error"' in whole or b"response.failed" in whole):
            return
        for event in events(whole):
            kind = event.get("type")
            answer = event.get("response")
            if isinstance(answer, dict) and isinstance(answer.get("usage"), dict):
                self.usage = answer["usage"]
                self.context = _context(answer)
            if kind in _ENDS:
                self.complete = True
            elif kind in ("error", "response.failed"):
                self.failed = True

    def _delta(self, event: Mapping[str, Any]) -> int:
        delta = event.get("delta")
        is_text = str(event.get("type", "")).endswith(".delta") and isinstance(delta, str)
        return len(str(delta)) if is_text else -1


def _context(answer: Mapping[str, Any]) -> Context:
    tier = answer.get("service_tier")
    return (("service_tier", tier),) if tier in ("flex", "priority", "fast") else ()


class OpenAI(Wire):
    """OpenAI's format."""

    name = "openai"

    def error(self, status: int, message: str, code: str = "") -> bytes:
        kind, usual = _TYPES.get(
            status, ("invalid_request_error" if status < 500 else "server_error", None)
        )
        if code == "insufficient_quota":
            kind = code
        body = {"message": message, "type": kind, "param": None, "code": code or usual}
        return json.dumps({"error": body}).encode()

    def error_event(self, message: str) -> bytes:
        return b"data: " + self.error(500, message) + b"\n\n"

    def authorization(self, key: str) -> dict[str, str]:
        return {"authorization": f"Bearer {key}"}

    def read(self, endpoint: Endpoint, request: Mapping[str, Any]) -> Ask:
        model = model_of(request)
        context = _context(request)
        if endpoint == "embeddings":
            return Ask(model, False, 0, False, False, context)
        stream = request.get("stream") is True
        if endpoint == "responses":
            most = maximum(request, "max_output_tokens")
            return Ask(model, stream, most, True, True, context)
        most = maximum(request, "max_completion_tokens", "max_tokens")
        choices = maximum(request, "n") or 1
        options = request.get("stream_options")
        if options is not None and not isinstance(options, dict):
            raise AskError("`stream_options` must be an object")
        wants = bool(options and options.get("include_usage"))
        return Ask(model, stream, most and most * choices, wants, True, context)

    def used(self, answer: Mapping[str, Any]) -> tuple[Tokens, Context] | None:
        usage = answer.get("usage")
        if not isinstance(usage, dict):
            return None
        return from_openai(usage), _context(answer)

    def stream(self, endpoint: Endpoint, ask: Ask) -> EventStream:
        return ResponsesStream() if endpoint == "responses" else ChatStream(not ask.wants_usage)

    def with_usage(
        self, endpoint: Endpoint, ask: Ask, request: dict[str, Any], raw: bytes
    ) -> bytes:
        if endpoint != "chat" or not ask.stream or ask.wants_usage:
            return raw
        if "stream_options" in request:
            options = {**(request["stream_options"] or {}), "include_usage": True}
            return json.dumps({**request, "stream_options": options}).encode()
        # Put in front; every other byte stays as the client wrote it.
        return _OPEN_BRACE.sub(b'{"stream_options":{"include_usage":true},', raw, count=1)


OPENAI = OpenAI()
