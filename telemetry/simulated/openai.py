"""The OpenAI wire: chat completions, responses, embeddings.

Source: https://platform.openai.com/docs/api-reference (chat, responses, embeddings).
"""

from __future__ import annotations

import base64
import hashlib
import struct
from typing import Any

from telemetry.simulated.anthropic import dumps, text_of
from telemetry.simulated.script import Directives, Reply, Turn

# A fixed time, so that every run gives the same answers.
CREATED = 1_700_000_000
Parts = tuple[list[bytes], list[bytes], list[bytes]]


def read_chat(request: dict[str, Any], size_chars: int) -> Turn:
    """Read a chat completions request."""
    turn = Turn("", size_chars=size_chars)
    names: dict[str, str] = {}
    for message in request.get("messages", ()):
        role = message.get("role")
        for call in message.get("tool_calls") or ():
            names[call["id"]] = call["function"]["name"]
        if role == "tool":
            name = names.get(message.get("tool_call_id", ""), "tool")
            turn.results.append((name, text_of(message.get("content"))))
        elif role == "user":
            turn.text = text_of(message.get("content"))
            turn.results = []
    for tool in request.get("tools") or ():
        function = tool.get("function") or {}
        turn.tools[function.get("name", "")] = function.get("parameters") or {}
    return turn


def read_responses(request: dict[str, Any], size_chars: int) -> Turn:
    """Read a request of the responses API."""
    turn = Turn("", size_chars=size_chars)
    given = request.get("input", "")
    names: dict[str, str] = {}
    for item in [{"role": "user", "content": given}] if isinstance(given, str) else given:
        if item.get("type") == "function_call":
            names[item["call_id"]] = item["name"]
        elif item.get("type") == "function_call_output":
            name = names.get(item.get("call_id", ""), "tool")
            turn.results.append((name, str(item.get("output", ""))))
        elif item.get("role") == "user":
            turn.text = text_of(item.get("content"))
            turn.results = []
    for tool in request.get("tools") or ():
        turn.tools[tool.get("name", "")] = tool.get("parameters") or {}
    return turn


def chat_usage(reply: Reply, asked: Directives) -> dict[str, Any]:
    """Return the usage as chat completions report it: prompt tokens with the cached ones."""
    prompt = reply.input_tokens + asked.cached
    return {
        "prompt_tokens": prompt,
        "completion_tokens": reply.output_tokens,
        "total_tokens": prompt + reply.output_tokens,
        "prompt_tokens_details": {"cached_tokens": asked.cached, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": reply.reasoning_tokens,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def _tool_calls(number: int, reply: Reply) -> list[dict[str, Any]]:
    functions = [{"name": call.name, "arguments": dumps(call.arguments)} for call in reply.calls]
    return [
        {"id": f"call_simulated_{number}_{i}", "type": "function", "function": function}
        for i, function in enumerate(functions)
    ]


def chat(model: str, number: int, reply: Reply, asked: Directives) -> dict[str, Any]:
    """Return a chat completion as one object."""
    said: dict[str, Any] = {"role": "assistant", "content": "".join(reply.words), "refusal": None}
    if reply.calls:
        said["tool_calls"] = _tool_calls(number, reply)
    finish = "tool_calls" if reply.calls else "stop"
    return {
        "id": f"chatcmpl-simulated-{number}",
        "object": "chat.completion",
        "created": CREATED,
        "model": model,
        "choices": [{"index": 0, "message": said, "logprobs": None, "finish_reason": finish}],
        "usage": chat_usage(reply, asked),
        "system_fingerprint": "simulated",
    }


def chat_events(
    model: str, number: int, reply: Reply, asked: Directives, with_usage: bool
) -> Parts:
    """Return a chat completion as server-sent events: before the text, its chunks, after it."""
    head = {
        "id": f"chatcmpl-simulated-{number}",
        "object": "chat.completion.chunk",
        "created": CREATED,
        "model": model,
        "system_fingerprint": "simulated",
    }
    tail = {"usage": None} if with_usage else {}

    def event(delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return f"data: {dumps({**head, 'choices': [choice], **tail})}\n\n".encode()

    before = [event({"role": "assistant", "content": "", "refusal": None})]
    chunks = [event({"content": word}) for word in reply.words]
    after = []
    for index, call in enumerate(_tool_calls(number, reply)):
        text = call["function"]["arguments"]
        half = len(text) // 2
        opening = {**call, "index": index, "function": {**call["function"], "arguments": ""}}
        after.append(event({"tool_calls": [opening]}))
        for part in (text[:half], text[half:]):
            piece = {"index": index, "function": {"arguments": part}}
            after.append(event({"tool_calls": [piece]}))
    after.append(event({}, "tool_calls" if reply.calls else "stop"))
    if with_usage:
        whole = {**head, "choices": [], "usage": chat_usage(reply, asked)}
        after.append(f"data: {dumps(whole)}\n\n".encode())
    after.append(b"data: [DONE]\n\n")
    return before, chunks, after


def response(model: str, number: int, reply: Reply, asked: Directives) -> dict[str, Any]:
    """Return an answer of the responses API as one object."""
    prompt = reply.input_tokens + asked.cached
    output: list[dict[str, Any]] = [
        {
            "type": "function_call",
            "id": f"fc_simulated_{number}_{i}",
            "status": "completed",
            "call_id": f"call_simulated_{number}_{i}",
            "name": call.name,
            "arguments": dumps(call.arguments),
        }
        for i, call in enumerate(reply.calls)
    ]
    if not output:
        text = {"type": "output_text", "text": "".join(reply.words), "annotations": []}
        output = [
            {
                "type": "message",
                "id": f"msg_simulated_{number}",
                "status": "completed",
                "role": "assistant",
                "content": [text],
            }
        ]
    return {
        "id": f"resp_simulated_{number}",
        "object": "response",
        "created_at": CREATED,
        "status": "completed",
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "model": model,
        "output": output,
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "usage": {
            "input_tokens": prompt,
            "input_tokens_details": {"cached_tokens": asked.cached},
            "output_tokens": reply.output_tokens,
            "output_tokens_details": {"reasoning_tokens": reply.reasoning_tokens},
            "total_tokens": prompt + reply.output_tokens,
        },
    }


def response_events(model: str, number: int, reply: Reply, asked: Directives) -> Parts:
    """Return an answer of the responses API as server-sent events."""
    whole = response(model, number, reply, asked)
    sequence = iter(range(1_000_000))

    def event(kind: str, **data: object) -> bytes:
        body = {"type": kind, "sequence_number": next(sequence), **data}
        return f"event: {kind}\ndata: {dumps(body)}\n\n".encode()

    started = {**whole, "status": "in_progress", "output": [], "usage": None}
    before = [event("response.created", response=started)]
    chunks = []
    for index, item in enumerate(whole["output"]):
        empty = {**item, "status": "in_progress"}
        if item["type"] == "message":
            where = {"item_id": item["id"], "output_index": index, "content_index": 0}
            part = {"type": "output_text", "text": "", "annotations": []}
            opened = {**empty, "content": []}
            before.append(event("response.output_item.added", output_index=index, item=opened))
            before.append(event("response.content_part.added", **where, part=part))
            chunks = [
                event("response.output_text.delta", **where, delta=word, logprobs=[])
                for word in reply.words
            ]
            done = item["content"][0]
            closing = [
                event("response.output_text.done", **where, text=done["text"], logprobs=[]),
                event("response.content_part.done", **where, part=done),
            ]
        else:
            where = {"item_id": item["id"], "output_index": index}
            opened = {**empty, "arguments": ""}
            before.append(event("response.output_item.added", output_index=index, item=opened))
            kind, given = "response.function_call_arguments", item["arguments"]
            closing = [
                event(f"{kind}.delta", **where, delta=given),
                event(f"{kind}.done", **where, arguments=given, name=item["name"]),
            ]
        closing.append(event("response.output_item.done", output_index=index, item=item))
        chunks += closing
    after = [event("response.completed", response=whole)]
    return before, chunks, after


def embeddings(request: dict[str, Any], tokens: int) -> dict[str, Any]:
    """Make embeddings from a hash of each input."""
    given = request.get("input", "")
    inputs = given if isinstance(given, list) and not _is_token_list(given) else [given]
    size = int(request.get("dimensions") or 8)
    data = []
    for index, item in enumerate(inputs):
        seed = hashlib.sha256(str(item).encode()).digest()
        vector = [(seed[i % 32] - 128) / 128 for i in range(size)]
        value: Any = vector
        if request.get("encoding_format") == "base64":
            value = base64.b64encode(struct.pack(f"<{size}f", *vector)).decode()
        data.append({"object": "embedding", "index": index, "embedding": value})
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": data, "model": request.get("model", ""), "usage": usage}


def _is_token_list(given: list[Any]) -> bool:
    return bool(given) and all(isinstance(item, int) for item in given)


def error(status: int, text: str) -> dict[str, Any]:
    """Return an error body."""
    kind = "server_error" if status >= 500 else "invalid_request_error"
    code = {401: "invalid_api_key", 404: "model_not_found", 429: "rate_limit_exceeded"}.get(status)
    return {"error": {"message": text, "type": kind, "param": None, "code": code}}


def error_event(text: str) -> bytes:
    """Return an error in the middle of a stream."""
    return f"data: {dumps(error(500, text))}\n\n".encode()
