"""The charge for a call, by the usage that the provider reports or leaves out."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from telemetry.services.proxy.pricing.money import pico
from telemetry.services.proxy.pricing.prices import PriceBook
from telemetry.services.proxy.pricing.usage import KINDS, Tokens, from_anthropic, from_openai
from tests.fixtures.simulated import served
from tests.proxy.conftest import MESSAGE, Running

Start = Callable[..., Running]
CHAT = {"model": "gpt-5", "messages": [], "max_completion_tokens": 100}
PRIORITY = (("service_tier", "priority"),)


class Scripted:
    """A provider that answers every call with the same bytes."""

    def __init__(self) -> None:
        self.body = b""
        self.stream = False
        self.url = ""

    def says(self, *answers: dict[str, Any], stream: bool = False) -> None:
        """Give these from now on, as JSON or as events of a stream."""
        texts = [json.dumps(answer) for answer in answers]
        self.stream = stream
        self.body = "".join(f"data: {t}\n\n" if stream else t for t in texts).encode()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        while (await receive()).get("more_body", False):
            pass
        kind = b"text/event-stream" if self.stream else b"application/json"
        head = {"type": "http.response.start", "status": 200}
        await send({**head, "headers": [(b"content-type", kind)]})
        await send({"type": "http.response.body", "body": self.body})


@pytest.fixture
def provider() -> Iterator[Scripted]:
    found = Scripted()
    with served(found) as found.url:
        yield found


@pytest.fixture
def asked(start_proxy: Start, provider: Scripted) -> Callable[..., Any]:
    """Calls the proxy over ``provider``; the call's row in the ledger."""
    url = provider.url
    proxy = start_proxy(TELEMETRY_ANTHROPIC_URL=url, TELEMETRY_OPENAI_URL=url)
    key = proxy.key()

    def ask(path: str, body: dict[str, Any]) -> Any:
        proxy.post(path, key, body)
        return proxy.calls()[-1]

    return ask


def tokens_of(row: Any) -> Tokens:
    return Tokens(**{kind: getattr(row, kind) for kind in KINDS})


def cost(provider: str, model: str, tokens: Tokens, *context: tuple[str, str]) -> int:
    rates = PriceBook(None).rates(provider, model, context)
    assert rates is not None
    return rates.cost(tokens)


@pytest.mark.parametrize("stream", [False, True])
def test_a_call_cut_short_keeps_the_tier_that_was_asked_for(
    asked: Callable[..., Any], provider: Scripted, stream: bool
) -> None:
    provider.says({"choices": [{"delta": {"content": "A" * 400}}]}, stream=stream)
    if not stream:
        provider.body = provider.body[:-1]
    tiered = asked("/v1/chat/completions", {**CHAT, "stream": stream, "service_tier": "priority"})
    assert tiered.estimated
    assert tiered.cost == cost("openai", "gpt-5", tokens_of(tiered), *PRIORITY)
    assert tiered.cost > cost("openai", "gpt-5", tokens_of(tiered))


@pytest.mark.parametrize("stream", [False, True])
def test_the_tier_is_the_one_the_answer_names(
    asked: Callable[..., Any], provider: Scripted, stream: bool
) -> None:
    usage = {"prompt_tokens": 1000, "completion_tokens": 100}
    provider.says({"service_tier": "default", "choices": [], "usage": usage}, stream=stream)
    row = asked("/v1/chat/completions", {**CHAT, "stream": stream, "service_tier": "priority"})
    assert row.cost == cost("openai", "gpt-5", Tokens(1000, output=100)) == pico("0.00225")


@pytest.mark.parametrize(
    ("usage", "output", "reasoning"),
    [
        # xAI's and Gemini's: the reasoning is in the total alone.
        (
            {
                "prompt_tokens": 10120,
                "completion_tokens": 1499,
                "total_tokens": 14428,
                "completion_tokens_details": {"reasoning_tokens": 2809},
            },
            4308,
            2809,
        ),
        ({"prompt_tokens": 20, "completion_tokens": 424, "total_tokens": 1016}, 996, 0),
        # OpenAI's: it is in the output too.
        (
            {
                "prompt_tokens": 75,
                "completion_tokens": 1186,
                "total_tokens": 1261,
                "completion_tokens_details": {"reasoning_tokens": 1024},
            },
            1186,
            1024,
        ),
        (
            {
                "input_tokens": 75,
                "output_tokens": 1186,
                "total_tokens": 1261,
                "output_tokens_details": {"reasoning_tokens": 1024},
            },
            1186,
            1024,
        ),
        # Embeddings have no output, and totals of other servers may be no totals.
        ({"prompt_tokens": 8, "total_tokens": 8}, 0, 0),
        ({"total_tokens": 8}, 0, 0),
        ({"prompt_tokens": 8, "completion_tokens": 2, "total_tokens": 0}, 2, 0),
        ({"prompt_tokens": 8, "completion_tokens": 2, "total_tokens": "10"}, 2, 0),
        ({"prompt_tokens": 8, "completion_tokens": 2, "total_tokens": 10**30}, 2, 0),
        ({"prompt_tokens": 8, "completion_tokens": 2, "total_tokens": 9}, 2, 0),
    ],
)
def test_reasoning_counts_inside_or_outside_the_output(
    usage: dict[str, Any], output: int, reasoning: int
) -> None:
    found = from_openai(usage)
    assert (found.output, found.reasoning) == (output, reasoning)


COMPACTED = {
    "input_tokens": 23000,
    "output_tokens": 1000,
    "cache_read_input_tokens": 40,
    "iterations": [
        {
            "type": "compaction",
            "input_tokens": 180000,
            "output_tokens": 3500,
            "cache_read_input_tokens": 7,
            "cache_creation_input_tokens": 5,
            "cache_creation": {"ephemeral_1h_input_tokens": 2},
        },
        # Already in the figures above.
        {
            "type": "message",
            "input_tokens": 23000,
            "output_tokens": 1000,
            "cache_read_input_tokens": 40,
        },
    ],
}


@pytest.mark.parametrize("stream", [False, True])
def test_compaction_is_charged(asked: Callable[..., Any], provider: Scripted, stream: bool) -> None:
    if stream:
        began = {"input_tokens": 23000, "output_tokens": 1, "cache_read_input_tokens": 40}
        provider.says(
            {"type": "message_start", "message": {"usage": began}},
            {"type": "message_delta", "delta": {}, "usage": COMPACTED},
            {"type": "message_stop"},
            stream=True,
        )
    else:
        provider.says({"type": "message", "content": [], "usage": COMPACTED})
    row = asked("/v1/messages", {**MESSAGE, "stream": stream})
    tokens = Tokens(203_000, cache_read=47, cache_write=3, cache_write_1h=2, output=4500)
    assert (row.status, tokens_of(row), bool(row.estimated)) == ("ok", tokens, False)
    assert row.cost == cost("anthropic", "claude-sonnet-4-6", tokens)


@pytest.mark.parametrize("iterations", [None, {}, "x", [None, 1, {"type": "compaction"}]])
def test_malformed_iterations_count_as_zero(iterations: Any) -> None:
    usage = {"input_tokens": 3, "output_tokens": 4, "iterations": iterations}
    assert from_anthropic(usage) == Tokens(3, output=4)


SEARCH: dict[str, Any] = {"type": "web_search_call", "status": "completed"}
SEARCHED: list[Any] = [
    SEARCH,
    {**SEARCH, "action": {"type": "search", "query": "x"}},
    {**SEARCH, "action": {"type": "open_page", "url": "http://x"}},
    {**SEARCH, "action": {"type": "find_in_page", "url": "http://x", "pattern": "y"}},
    {**SEARCH, "action": None},
    {"type": "message", "content": [{"type": "output_text", "text": '"web_search_call"'}]},
    None,
]
RESPONSE = {"model": "gpt-5", "input": "x", "max_output_tokens": 100}


@pytest.mark.parametrize("stream", [False, True])
def test_openais_web_searches_are_charged(
    asked: Callable[..., Any], provider: Scripted, stream: bool
) -> None:
    usage = {"input_tokens": 100, "output_tokens": 50, "total_tokens": 150}
    answer = {"object": "response", "output": SEARCHED, "usage": usage}
    if stream:
        items = [{"type": "response.output_item.done", "item": item} for item in SEARCHED]
        provider.says(*items, {"type": "response.completed", "response": answer}, stream=True)
    else:
        provider.says(answer)
    row = asked("/v1/responses", {**RESPONSE, "stream": stream})
    tokens = Tokens(100, output=50, searches=3)
    assert (row.status, tokens_of(row)) == ("ok", tokens)
    assert row.cost == cost("openai", "gpt-5", tokens) == pico("0.030625")


def test_searches_before_a_stream_broke_off_are_charged(
    asked: Callable[..., Any], provider: Scripted
) -> None:
    begun = {"type": "response.output_item.added", "item": {**SEARCH, "status": "in_progress"}}
    done = {"type": "response.output_item.done", "item": SEARCH}
    provider.says(begun, {"type": "response.web_search_call.searching"}, done, stream=True)
    row = asked("/v1/responses", {**RESPONSE, "stream": True})
    assert (row.status, row.searches) == ("interrupted", 1)
    assert row.cost > pico("0.01")


def test_complete_stream_without_done_is_not_an_error(
    asked: Callable[..., Any], provider: Scripted
) -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": 2}
    text = {"choices": [{"index": 0, "delta": {"content": "Hi"}, "finish_reason": None}]}
    end = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    provider.says(text, end, {"choices": [], "usage": usage}, stream=True)
    row = asked("/v1/chat/completions", {**CHAT, "stream": True})
    assert (row.status, bool(row.estimated)) == ("ok", False)
    assert tokens_of(row) == Tokens(9, output=2)
    # Nor where it reports no usage either, as older servers don't.
    provider.says(text, end, stream=True)
    row = asked("/v1/chat/completions", {**CHAT, "stream": True})
    assert (row.status, bool(row.estimated), row.output) == ("ok", True, 1)


@pytest.mark.parametrize("stream", [False, True])
def test_inference_within_the_us_is_charged_as_the_answer_names_it(
    asked: Callable[..., Any], provider: Scripted, stream: bool
) -> None:
    """A workspace's default may ask for it where the request doesn't."""
    body = {**MESSAGE, "stream": stream}
    plain = cost("anthropic", "claude-sonnet-4-6", Tokens(1_000_000, output=20))
    for asked_for, said, expected in (
        (None, "us", plain * 11 // 10),
        ("us", "us", plain * 11 // 10),
        (None, "global", plain),
        (None, "not_available", plain),
        ("us", "global", plain),
    ):
        usage = {"input_tokens": 1_000_000, "output_tokens": 20, "inference_geo": said}
        if stream:
            provider.says(
                {"type": "message_start", "message": {"usage": usage}},
                {"type": "message_delta", "delta": {}, "usage": {"output_tokens": 20}},
                {"type": "message_stop"},
                stream=True,
            )
        else:
            provider.says({"type": "message", "content": [], "usage": usage})
        row = asked("/v1/messages", {**body, "inference_geo": asked_for})
        assert (row.status, row.cost) == ("ok", expected)
