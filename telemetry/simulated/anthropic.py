"""The Anthropic wire: read a Messages request and render its answer.

Source: https://docs.claude.com/en/api/messages and its streaming page.
"""

from __future__ import annotations

import json
from typing import Any

from telemetry.simulated.script import Directives, Reply, Turn

ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}


def dumps(value: object) -> str:
    """Encode as compact JSON, as the providers do."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def text_of(content: object) -> str:
    """Return the text of a message's content, which is a string or a list of blocks."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    parts = []
    for block in content:
        if isinstance(block, dict) and isinstance(block.get("text"), str):
            parts.append(block["text"])
    return "\n".join(parts)


def read(request: dict[str, Any], size_chars: int) -> Turn:
    """Read a Messages request."""
    turn = Turn("", size_chars=size_chars)
    names: dict[str, str] = {}
    for message in request.get("messages", ()):
        content = message.get("content")
        blocks = content if isinstance(content, list) else []
        if message.get("role") == "assistant":
            for block in blocks:
                if block.get("type") == "tool_use":
                    names[block["id"]] = block["name"]
            continue
        results = [block for block in blocks if block.get("type") == "tool_result"]
        for block in results:
            name = names.get(block.get("tool_use_id", ""), "tool")
            turn.results.append((name, text_of(block.get("content"))))
        if not results:
            turn.text = text_of(content)
            turn.results = []
    for tool in request.get("tools", ()):
        turn.tools[tool.get("name", "")] = tool.get("input_schema") or {}
    return turn


def usage(reply: Reply, asked: Directives) -> dict[str, Any]:
    """Return the usage as Anthropic reports it: input tokens without the cached ones."""
    result: dict[str, Any] = {
        "input_tokens": reply.input_tokens,
        "cache_creation_input_tokens": asked.write + asked.write_1h,
        "cache_read_input_tokens": asked.cached,
        "cache_creation": {
            "ephemeral_5m_input_tokens": asked.write,
            "ephemeral_1h_input_tokens": asked.write_1h,
        },
        "output_tokens": reply.output_tokens,
        "service_tier": "standard",
    }
    if reply.reasoning_tokens:
        result["output_tokens_details"] = {"thinking_tokens": reply.reasoning_tokens}
    return result


def message(model: str, number: int, reply: Reply, asked: Directives) -> dict[str, Any]:
    """Return the answer as one object."""
    content: list[dict[str, Any]] = [{"type": "text", "text": "".join(reply.words)}]
    for i, call in enumerate(reply.calls):
        tool_id = f"toolu_simulated_{number}_{i}"
        content.append(
            {"type": "tool_use", "id": tool_id, "name": call.name, "input": call.arguments}
        )
    return {
        "id": f"msg_simulated_{number}",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": content,
        "stop_reason": "tool_use" if reply.calls else "end_turn",
        "stop_sequence": None,
        "usage": usage(reply, asked),
    }


def _event(kind: str, **data: object) -> bytes:
    return f"event: {kind}\ndata: {dumps({'type': kind, **data})}\n\n".encode()


def events(
    model: str, number: int, reply: Reply, asked: Directives
) -> tuple[list[bytes], list[bytes], list[bytes]]:
    """Return the answer as server-sent events: before the text, the text's chunks, after it."""
    whole = message(model, number, reply, asked)
    start = {**whole, "content": [], "stop_reason": None}
    start["usage"] = {**whole["usage"], "output_tokens": 1}
    before = [
        _event("message_start", message=start),
        _event("content_block_start", index=0, content_block={"type": "text", "text": ""}),
        _event("ping"),
    ]
    chunks = [
        _event("content_block_delta", index=0, delta={"type": "text_delta", "text": word})
        for word in reply.words
    ]
    after = [_event("content_block_stop", index=0)]
    for index, block in enumerate(whole["content"][1:], 1):
        text = dumps(block["input"])
        half = len(text) // 2
        after.append(
            _event("content_block_start", index=index, content_block={**block, "input": {}})
        )
        for part in (text[:half], text[half:]):
            delta = {"type": "input_json_delta", "partial_json": part}
            after.append(_event("content_block_delta", index=index, delta=delta))
        after.append(_event("content_block_stop", index=index))
    after.append(
        _event(
            "message_delta",
            delta={"stop_reason": whole["stop_reason"], "stop_sequence": None},
            usage={"output_tokens": whole["usage"]["output_tokens"]},
        )
    )
    after.append(_event("message_stop"))
    return before, chunks, after


def error(status: int, text: str) -> dict[str, Any]:
    """Return an error body."""
    kind = ERROR_TYPES.get(status, "api_error")
    return {
        "type": "error",
        "error": {"type": kind, "message": text},
        "request_id": "req_simulated",
    }


def error_event(text: str) -> bytes:
    """Return an error in the middle of a stream."""
    return _event("error", error={"type": "overloaded_error", "message": text})
