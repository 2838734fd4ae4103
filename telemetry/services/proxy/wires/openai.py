"""OpenAI's chat completions, responses and embeddings.

Source: https://platform.openai.com/docs/api-reference
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, ClassVar

from telemetry.services.proxy.pricing.usage import Tokens, from_openai
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
    obj,
    objs,
    reported,
    size,
)

_TYPES = {
    401: ("invalid_request_error", "invalid_api_key"),
    404: ("invalid_request_error", "model_not_found"),
    429: ("requests", "rate_limit_exceeded"),
}
_USAGE = re.compile(rb'"usage"\s*:\s*\{')
_NO_CHOICES = re.compile(rb'"choices"\s*:\s*\[\s*\]')
_NULL_USAGE = re.compile(rb',\s*"usage"\s*:\s*null(?=\s*[,}])')
_OPEN_BRACE = re.compile(rb"\s*\{")
# In a line of its own: an answer whose text mentions it has its line ends escaped.
_DONE = re.compile(rb"^data: ?\[DONE\]", re.MULTILINE)
_NOTABLE = re.compile(rb'"usage"\s*:\s*\{|"error"')
_NOTABLE_CHAT = re.compile(_NOTABLE.pattern + rb'|"finish_reason"\s*:\s*"')
_NOTABLE_RESPONSE = re.compile(
    _NOTABLE.pattern + rb"|web_search_call|response\.(?:completed|incomplete|failed)"
)
_ENDS = frozenset(("response.completed", "response.incomplete"))


class _Stream(EventStream):
    _searches = 0

    def tokens(self, input_estimate: int) -> tuple[Tokens, bool]:
        if self.usage is not None:
            tokens = from_openai(self.usage)
        else:
            tokens = Tokens(input=input_estimate, output=self.output_estimate())
        tokens.searches = self._searches
        return tokens, self.usage is None


class ChatStream(_Stream):
    """Usage comes in a last event without choices, asked for by ``include_usage``.

    The end is ``[DONE]``, or all choices finished: some servers never send the former.

    Args:
        choices: how many answers come.
        hide: whether to hide the usage, for which the client didn't ask.
    """

    def __init__(self, choices: int, hide: bool) -> None:
        super().__init__()
        self._choices = choices
        self._hide = hide
        self._finished: set[str] = set()

    def _scan(self, whole: bytes) -> None:
        if _NOTABLE_CHAT.search(whole):
            for event in events(whole, _NOTABLE_CHAT):
                for choice in objs(event.get("choices")):
                    if choice.get("finish_reason"):
                        self._finished.add(str(choice.get("index")))
                usage = reported(event.get("usage"))
                if usage is not None:
                    self.usage = usage
                    self.context = _context(event)
                if event.get("error"):
                    self.failed = True
            if len(self._finished) >= self._choices and (self._hide or self.usage is not None):
                self.complete = True
        if b"[DONE]" in whole and _DONE.search(whole):
            self.complete = True

    def _delta(self, event: Mapping[str, Any]) -> int:
        chars = -1
        for choice in objs(event.get("choices")):
            delta = obj(choice.get("delta"))
            said = size(delta.get("content")) + size(delta.get("reasoning_content"))
            for call in objs(delta.get("tool_calls")):
                said += size(obj(call.get("function")).get("arguments"))
            if said:
                chars = max(chars, 0) + said
        return chars

    def _forward(self, chunk: bytes, whole: bytes) -> bytes:
        return _hidden(whole) if self._hide else chunk

    def _forward_rest(self, rest: bytes) -> bytes:
        return _hidden(rest) if self._hide else b""


def _hidden(whole: bytes) -> bytes:
    """Remove from complete events what a client that didn't ask for usage would not get."""
    if b'"usage"' not in whole:
        return whole
    whole = _NULL_USAGE.sub(b"", whole)
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
        if not _NOTABLE_RESPONSE.search(whole):
            return
        for event in events(whole, _NOTABLE_RESPONSE):
            kind = event.get("type")
            answer = obj(event.get("response"))
            usage = reported(answer.get("usage"))
            if usage is not None:
                self.usage = usage
                self.context = _context(answer)
            if kind == "response.output_item.done":
                self._searches += _searched([event.get("item")])
            if kind in _ENDS:
                self._searches = max(self._searches, _searched(answer.get("output")))
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


def _searched(output: object) -> int:
    """Web searches among a response's items, which its usage doesn't count. Each is charged;
    opening a page that was found, or looking for something in it, is not.

    Source: https://platform.openai.com/docs/guides/tools-web-search
    """
    return sum(
        item.get("type") == "web_search_call"
        and obj(item.get("action")).get("type", "search") == "search"
        for item in objs(output)
    )


class OpenAI(Wire):
    """OpenAI's format."""

    name = "openai"
    url = "https://api.openai.com/v1"
    url_env = "TELEMETRY_OPENAI_URL"
    key_env = "OPENAI_API_KEY"
    endpoints: ClassVar = {
        "/chat/completions": "chat",
        "/responses": "responses",
        "/embeddings": "embeddings",
    }

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
            return Ask(model, False, 0, 1, False, False, context)
        stream = request.get("stream") is True
        if endpoint == "responses":
            if request.get("background"):
                raise AskError("`background` can't be metered by this proxy: leave it out")
            most = maximum(request, "max_output_tokens")
            return Ask(model, stream, most, 1, True, True, context)
        most = maximum(request, "max_completion_tokens", "max_tokens")
        choices = maximum(request, "n") or 1
        options = request.get("stream_options")
        if options is not None and not isinstance(options, dict):
            raise AskError("`stream_options` must be an object")
        wants = bool(options and options.get("include_usage"))
        return Ask(model, stream, most, choices, wants, True, context)

    def used(self, answer: Mapping[str, Any]) -> tuple[Tokens, Context] | None:
        usage = reported(answer.get("usage"))
        if usage is None:
            return None
        tokens = from_openai(usage)
        tokens.searches = _searched(answer.get("output"))
        return tokens, _context(answer)

    def stream(self, endpoint: Endpoint, ask: Ask) -> EventStream:
        if endpoint == "responses":
            return ResponsesStream()
        return ChatStream(ask.choices, hide=not ask.wants_usage)

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
