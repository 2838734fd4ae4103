"""Streams are metered the same, however the network splits them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from telemetry.services.proxy.pricing.usage import Tokens
from telemetry.services.proxy.wires import ANTHROPIC, OPENAI, Ask, EventStream
from telemetry.services.proxy.wires.base import events
from telemetry.simulated import anthropic, openai
from telemetry.simulated.script import Directives, Turn, reply

ASKED = Directives(input=50, cached=20, output=30, reasoning=4, write=6, write_1h=2)
ANSWER = reply(Turn('Say "usage":{"x":1} and [DONE] and ☃'), ASKED)
ASK = Ask("m", True, None, 1, False, True, ())


def pieces(data: bytes, size: int) -> list[bytes]:
    return [data[i : i + size] for i in range(0, len(data), size)]


def run(stream: EventStream, data: bytes, size: int) -> bytes:
    return b"".join([*(stream.feed(p) for p in pieces(data, size)), stream.rest()])


def whole(parts: tuple[list[bytes], ...]) -> bytes:
    return b"".join(event for part in parts for event in part)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 1000, 100_000])
@pytest.mark.parametrize("crlf", [False, True])
def test_anthropic(size: int, crlf: bool) -> None:
    data = whole(anthropic.events("m", 1, ANSWER, ASKED))
    data = data.replace(b"\n", b"\r\n") if crlf else data
    stream = ANTHROPIC.stream("messages", ASK)
    assert run(stream, data, size) == data
    assert stream.complete
    assert not stream.failed
    assert stream.tokens(999) == (
        Tokens(input=50, cache_read=20, cache_write=6, cache_write_1h=2, output=30, reasoning=4),
        False,
    )


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 1000, 100_000])
def test_openai_chat_with_usage_hidden(size: int) -> None:
    plain = whole(openai.chat_events("m", 1, ANSWER, ASKED, with_usage=False))
    data = whole(openai.chat_events("m", 1, ANSWER, ASKED, with_usage=True))
    stream = OPENAI.stream("chat", ASK)
    assert run(stream, data, size) == plain
    assert stream.complete
    assert stream.tokens(999) == (
        Tokens(input=50, cache_read=20, output=30, reasoning=4),
        False,
    )


@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_openai_responses(size: int) -> None:
    data = whole(openai.response_events("m", 1, ANSWER, ASKED))
    stream = OPENAI.stream("responses", ASK)
    assert run(stream, data, size) == data
    assert stream.complete
    assert stream.tokens(999)[0] == Tokens(input=50, cache_read=20, output=30, reasoning=4)


@pytest.mark.parametrize("wire", ["anthropic", "chat", "responses"])
def test_a_cut_stream_is_estimated_from_what_came(wire: str) -> None:
    answer = reply(Turn(""), Directives(chunks=400))
    if wire == "anthropic":
        before, chunks, _ = anthropic.events("m", 1, answer, Directives())
        stream = ANTHROPIC.stream("messages", ASK)
        known = answer.input_tokens
    else:
        render: Any = openai.response_events
        before, chunks, _ = (
            openai.chat_events("m", 1, answer, Directives(), True)
            if wire == "chat"
            else render("m", 1, answer, Directives())
        )
        stream = OPENAI.stream("chat" if wire == "chat" else "responses", ASK)
        known = 999
    run(stream, b"".join(before + chunks[:100]), 100)
    assert not stream.complete
    tokens, estimated = stream.tokens(999)
    assert estimated
    assert tokens.input == known
    # 505 characters at four a token are more than the 100 deltas.
    assert tokens.output == 127


def test_a_long_stream_is_not_kept_in_memory() -> None:
    stream = OPENAI.stream("chat", ASK)
    event = openai.chat_events("m", 1, reply(Turn(""), Directives(chunks=1)), ASKED, True)[1][0]
    for _ in range(5000):
        stream.feed(event)
    assert sum(map(len, stream._kept)) < 300_000
    assert stream.output_estimate() == 12_500


def test_stream_options_are_put_in_without_touching_another_byte() -> None:
    raw = b' {"model" : "gpt-4.1",  "stream":true, "x":"\\u00e9 {"}'
    ask = OPENAI.read("chat", json.loads(raw))
    sent = OPENAI.with_usage("chat", ask, json.loads(raw), raw)
    assert json.loads(sent) == {**json.loads(raw), "stream_options": {"include_usage": True}}
    assert sent.endswith(raw.lstrip()[1:])
    given = {"model": "m", "stream": True, "stream_options": {"include_obfuscation": False}}
    sent = OPENAI.with_usage("chat", OPENAI.read("chat", given), given, b"")
    assert json.loads(sent)["stream_options"] == {
        "include_obfuscation": False,
        "include_usage": True,
    }


@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_text_that_mentions_the_end_marker_does_not_end_the_stream(size: int) -> None:
    said = Turn('event: message_stop and\ndata: [DONE] and "type":"message_stop"')
    answer = reply(said, Directives())
    for stream, parts in (
        (ANTHROPIC.stream("messages", ASK), anthropic.events("m", 1, answer, Directives())),
        (OPENAI.stream("chat", ASK), openai.chat_events("m", 1, answer, Directives(), True)),
    ):
        run(stream, b"".join(parts[0] + parts[1]), size)
        assert not stream.complete
        run(stream, b"".join(parts[2]), size)
        assert stream.complete


def test_unrequested_usage_is_hidden_in_any_event() -> None:
    stream = OPENAI.stream("chat", ASK)
    text = r'"choices":[{"delta":{"content":",\"usage\":null"}}]'
    data = f'data: {{"id":"x",{text},"usage":null,"obfuscation":"ab"}}\n\n'.encode()
    data += b'data: {"id":"x","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}\n\n'
    plain = f'data: {{"id":"x",{text},"obfuscation":"ab"}}\n\n'.encode()
    assert run(stream, data, len(data)) == plain


@pytest.mark.parametrize(
    "event",
    [
        '{"choices": ["x", null, {"delta": 7}, {"delta": {"content": 5, "tool_calls": [1]}}]}',
        '{"choices": 3, "usage": [1]}',
        '{"type": "message_start", "message": "x", "usage": 1}',
        '{"type": "content_block_delta", "delta": ["text"]}',
        '{"type": "response.completed", "response": [{"usage": {}}]}',
        '{"type": "message_delta", "usage": {}}',
        "[1]",
    ],
)
def test_shapes_no_provider_sends_are_estimated(event: str) -> None:
    for stream in (
        ANTHROPIC.stream("messages", ASK),
        OPENAI.stream("chat", ASK),
        OPENAI.stream("responses", ASK),
    ):
        run(stream, f"data: {event}\n\n".encode(), 1000)
        tokens, estimated = stream.tokens(9)
        assert estimated
        assert tokens.input == 9


def test_response_without_usage_is_complete() -> None:
    stream = OPENAI.stream("responses", ASK)
    run(stream, b'data: {"type":"response.completed","response":{"usage":null}}\n\n', 10)
    assert stream.complete
    assert stream.tokens(9)[1], "and is estimated"


def chat(*events: dict[str, Any]) -> bytes:
    return b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)


def choice(index: int, finish: str | None = None) -> dict[str, Any]:
    delta = {"content": 'He said "finish_reason":"stop"'}
    return {"choices": [{"index": index, "delta": delta, "finish_reason": finish}]}


USAGE: dict[str, Any] = {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4}}
ASK_USAGE = replace(ASK, wants_usage=True)
ASK_TWO = replace(ASK, choices=2)


@pytest.mark.parametrize(
    ("ask", "events", "complete"),
    [
        # The client is to have no usage: it has its whole answer all the same.
        (ASK, [choice(0), choice(0, "stop")], True),
        (ASK, [choice(0), choice(0, "stop"), USAGE], True),
        (ASK, [choice(0), USAGE], False),
        (ASK, [choice(0), choice(0, "")], False),
        (ASK_USAGE, [choice(0), choice(0, "length"), USAGE], True),
        (ASK_USAGE, [choice(0), choice(0, "length")], False),
        # Usage so far comes with every event of some servers.
        (ASK_USAGE, [{**USAGE, **choice(0)}], False),
        (ASK_USAGE, [{**USAGE, **choice(0)}, {**USAGE, **choice(0, "stop")}], True),
        (ASK_TWO, [choice(0, "stop"), choice(1)], False),
        (ASK_TWO, [choice(0, "stop"), choice(0, "stop")], False),
        (ASK_TWO, [choice(0, "stop"), choice(1), choice(1, "stop")], True),
    ],
)
@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_chat_without_done_is_complete_after_all_choices(
    ask: Ask, events: list[dict[str, Any]], complete: bool, size: int
) -> None:
    stream = OPENAI.stream("chat", ask)
    run(stream, chat(*events), size)
    assert stream.complete is complete
    run(stream, b"data: [DONE]\n\n", size)
    assert stream.complete


def test_event_nested_too_deeply_is_skipped() -> None:
    stream = b'data: {"a": ' + b"[" * 100_000 + b'\n\ndata: {"b": 1}\n\n'
    assert list(events(stream)) == [{"b": 1}]
