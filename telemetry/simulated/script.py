"""Decide the simulated model's answer: text, tool calls, usage, misbehaviour."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

KNOWN = ("claude-", "gpt-", "o1", "o3", "o4", "text-embedding-", "simulated", "llama")
TOOLS = ("container_status", "query_metrics", "search_logs", "costs")

_BY_MODEL = {
    "simulated-slow": {"delay": "1.0", "gap": "0.2"},
    "simulated-error": {"status": "500"},
    "simulated-overloaded": {"status": "529"},
    "simulated-cut": {"drop_after": "3"},
    "simulated-garbled": {"garbled": "1"},
}
_ABOUT_CONTAINER = re.compile(
    r"\bcontainers?\b|\b(?:doing|cpu|memory|logs?|costs?|spen[dt])\b", re.I
)
_NAMED = re.compile(r"\b(?:container|handle|user)\s+[\"'`]?([A-Za-z0-9][\w.-]*[A-Za-z0-9])", re.I)
_HANDLE_LIKE = re.compile(r"\b([a-z][a-z0-9]*(?:-[a-z0-9]+)*-\d+)\b")
# Words that follow "container" in a sentence and are not handles.
_NOT_HANDLES = frozenset(
    ("is", "are", "was", "were", "doing", "that", "which", "with", "has", "use", "uses", "and")
)
QUOTED_CHARS = 2000


@dataclass
class Directives:
    """Steering of a request; the package's docstring describes the keys."""

    chunks: int = 0
    delay: float = 0.0
    gap: float = 0.0
    status: int = 0
    retry_after: str = ""
    times: int = 0
    id: str = ""
    drop_after: int = -1
    error_after: int = -1
    garbled: int = 0
    hang: int = 0
    input: int = -1
    output: int = -1
    cached: int = 0
    write: int = 0
    write_1h: int = 0
    reasoning: int = 0
    tool: str = ""


@dataclass
class ToolCall:
    """One call of a tool; ``arguments`` is a JSON object."""

    name: str
    arguments: dict[str, Any]


@dataclass
class Turn:
    """Content of a request, independent of its wire.

    Args:
        text: last message of the user.
        results: tool results after it, as (tool name, text).
        tools: the tools offered, name to JSON schema of the arguments.
        size_chars: size of the request, from which its input tokens are estimated.
    """

    text: str
    results: list[tuple[str, str]] = field(default_factory=list)
    tools: dict[str, dict[str, Any]] = field(default_factory=dict)
    size_chars: int = 0


@dataclass
class Reply:
    """Answer to a request: words to stream or tools to call, and the usage to report."""

    words: list[str]
    calls: list[ToolCall]
    input_tokens: int
    output_tokens: int
    reasoning_tokens: int


def directives(model: str, header: str, metadata: object) -> Directives:
    """Read the steering of a request.

    Raises:
        ValueError: a key is unknown, or its value invalid.
    """
    found = dict(_BY_MODEL.get(model, {}))
    text = ""
    if isinstance(metadata, dict):
        text = str(metadata.get("simulated", ""))
        user = str(metadata.get("user_id", ""))
        if user.startswith("simulated:"):
            text = user.removeprefix("simulated:")
    for pair in f"{text},{header}".split(","):
        key, _, value = pair.strip().partition("=")
        if key:
            found[key] = value
    result = Directives()
    if not found:
        return result
    for key, value in found.items():
        if key not in Directives.__dataclass_fields__:
            raise ValueError(f"x-simulated: unknown key {key!r}")
        kind = type(getattr(result, key))
        setattr(result, key, kind(value))
    return result


def reply(turn: Turn, asked: Directives) -> Reply:
    """Answer ``turn``: the same request always gets the same answer."""
    calls: list[ToolCall] = []
    if asked.tool:
        schema = turn.tools.get(asked.tool, {})
        calls = [ToolCall(asked.tool, arguments(asked.tool, schema, handle_in(turn.text)))]
    elif turn.tools and not turn.results and _ABOUT_CONTAINER.search(turn.text):
        handle = handle_in(turn.text)
        calls = [
            ToolCall(name, arguments(name, turn.tools[name], handle))
            for name in TOOLS
            if name in turn.tools
        ]
    if calls:
        words = ["Simulated ", "look-up."]
    elif asked.chunks:
        words = ["Simulated "] + ["word "] * (asked.chunks - 1)
    else:
        words = re.findall(r"\S+\s*", _compose(turn))
    said = len(words) + sum(8 + len(str(call.arguments)) // 4 for call in calls)
    return Reply(
        words=words,
        calls=calls,
        input_tokens=asked.input if asked.input >= 0 else max(1, turn.size_chars // 4),
        output_tokens=asked.output if asked.output >= 0 else said + asked.reasoning,
        reasoning_tokens=asked.reasoning,
    )


def _compose(turn: Turn) -> str:
    if not turn.results:
        return f"Simulated answer to: {turn.text[:QUOTED_CHARS]}"
    handle = handle_in(turn.text)
    about = f"container {handle}" if handle else "your question"
    lines = [f"- {name}: {text.strip()[:QUOTED_CHARS]}" for name, text in turn.results]
    return "\n".join([f"Simulated answer about {about}:", *lines])


def handle_in(text: str) -> str:
    """Find the handle of the container that a message names, ``""`` if it names no container."""
    for match in _NAMED.finditer(text):
        if match[1].lower() not in _NOT_HANDLES:
            return match[1]
    found = _HANDLE_LIKE.search(text)
    return found[1] if found else ""


def arguments(name: str, schema: dict[str, Any], handle: str) -> dict[str, Any]:
    """Make arguments for a tool, following its JSON schema.

    Args:
        name: the tool.
        schema: JSON schema of its arguments (``properties``, ``required``).
        handle: the container in question, ``""`` for none.
    """
    properties = schema.get("properties", {})
    required = set(schema.get("required", ()))
    result: dict[str, Any] = {}
    for key, spec in properties.items():
        value = _value(name, key, handle)
        if value:
            result[key] = value
        elif key in required:
            result[key] = _any_value(spec if isinstance(spec, dict) else {})
    return result


def _value(name: str, key: str, handle: str) -> str:
    selector = f'{{handle="{handle}"}}' if handle else ""
    if key in ("handle", "container", "user", "user_id"):
        return handle
    if key in ("promql", "logql", "query", "expr", "expression"):
        if name == "search_logs":
            return (selector or '{service_name=~".+"}') if key != "query" else handle
        return f"platform_container_memory_bytes{selector}"
    return ""


def _any_value(spec: dict[str, Any]) -> Any:
    if spec.get("enum"):
        return spec["enum"][0]
    if "default" in spec:
        return spec["default"]
    empty = {"integer": 10, "number": 10, "boolean": False, "array": [], "object": {}}
    return empty.get(str(spec.get("type")), "")
