"""The providers' own clients, unmodified, see no difference; the ledger sees every token."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import anthropic
import httpx
import openai
import pytest
from genai_prices import Usage, calc_price

from telemetry.services.proxy.pricing.money import usd
from tests.proxy.conftest import HELLO, Running

SONNET = "claude-sonnet-4-6"
TOOL: Any = {
    "name": "container_status",
    "description": "State of a container",
    "input_schema": {
        "type": "object",
        "properties": {"handle": {"type": "string"}},
        "required": ["handle"],
    },
}
# Five words of 30 characters, at four a token.
CAME = 8
ASKED: Any = [{"role": "user", "content": "How is container demo-1 doing?"}]


def price(model: str, provider: str, **usage: int) -> Decimal:
    """What genai-prices itself says."""
    return calc_price(Usage(**usage), model, provider_id=provider).total_price


def spent(row: Any) -> Decimal:
    return Decimal(usd(row.cost))


def test_anthropic_message_is_answered_and_charged_to_the_last_digit(
    proxy: Running, steer: Any
) -> None:
    client = proxy.anthropic(proxy.key())
    answer = client.messages.create(
        model=SONNET,
        max_tokens=5000,
        messages=HELLO,
        extra_headers=steer(input=1234, cached=777, write=555, write_1h=333, output=2221),
    )
    assert answer.content[0].text == "Simulated answer to: Hello out there"
    used = answer.usage
    (row,) = proxy.calls()
    assert (row.status, row.http_status, row.model, row.user_id) == ("ok", 200, SONNET, "ann")
    reported = (used.input_tokens, used.cache_read_input_tokens, used.output_tokens)
    assert (row.input, row.cache_read, row.output) == reported
    assert (row.cache_write, row.cache_write_1h) == (555, 333)
    assert spent(row) == price(
        SONNET,
        "anthropic",
        input_tokens=1234 + 777 + 888,
        cache_read_tokens=777,
        cache_write_tokens=888,
        cache_write_1h_tokens=333,
        output_tokens=2221,
    )
    assert not row.estimated
    assert row.price_version.startswith("genai-prices ")
    user = proxy.user()
    assert (user.day_spent, user.month_spent, user.reserved) == (row.cost, row.cost, 0)


def test_anthropic_stream_arrives_piece_by_piece_and_is_charged(proxy: Running, steer: Any) -> None:
    client = proxy.anthropic(proxy.key())
    with client.messages.stream(
        model=SONNET,
        max_tokens=500,
        messages=HELLO,
        extra_headers=steer(chunks=40, input=100, cached=50, output=321),
    ) as stream:
        words = list(stream.text_stream)
        final = stream.get_final_message()
    assert len(words) == 40
    assert final.usage.output_tokens == 321
    (row,) = proxy.calls()
    assert (row.status, row.stream) == ("ok", True)
    assert (row.input, row.cache_read, row.output) == (100, 50, 321)
    assert spent(row) == price(
        SONNET, "anthropic", input_tokens=150, cache_read_tokens=50, output_tokens=321
    )


def test_anthropic_tools_by_stream(proxy: Running) -> None:
    client = proxy.anthropic(proxy.key())
    with client.messages.stream(
        model=SONNET, max_tokens=500, messages=ASKED, tools=[TOOL]
    ) as stream:
        first = stream.get_final_message()
    call = next(block for block in first.content if block.type == "tool_use")
    assert (call.name, call.input) == ("container_status", {"handle": "demo-1"})
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "cpu 12.5 %"}
    second = client.messages.create(
        model=SONNET,
        max_tokens=500,
        tools=[TOOL],
        messages=[
            *ASKED,
            {"role": "assistant", "content": first.content},
            {"role": "user", "content": [result]},
        ],
    )
    assert "cpu 12.5 %" in second.content[0].text
    assert [row.status for row in proxy.calls()] == ["ok", "ok"]


def test_openai_chat_counts_cached_tokens_once(proxy: Running, steer: Any) -> None:
    client = proxy.openai(proxy.key())
    answer = client.chat.completions.create(
        model="gpt-4.1",
        messages=HELLO,
        extra_headers=steer(input=1000, cached=300, output=500, reasoning=200),
    )
    assert answer.usage.prompt_tokens == 1300
    (row,) = proxy.calls()
    assert (row.input, row.cache_read, row.output, row.reasoning) == (1000, 300, 500, 200)
    assert spent(row) == price(
        "gpt-4.1", "openai", input_tokens=1300, cache_read_tokens=300, output_tokens=500
    )


def test_openai_stream_hides_unrequested_usage(proxy: Running, steer: Any) -> None:
    client = proxy.openai(proxy.key())
    chunks = list(
        client.chat.completions.create(
            model="gpt-4.1",
            messages=HELLO,
            stream=True,
            extra_headers=steer(input=70, output=30, chunks=30),
        )
    )
    assert all(chunk.choices and chunk.usage is None for chunk in chunks)
    (row,) = proxy.calls()
    assert (row.status, row.input, row.output, bool(row.estimated)) == ("ok", 70, 30, False)


def test_openai_stream_is_byte_for_byte_what_the_provider_would_have_sent(
    proxy: Running, simulated_upstream: str, steer: Any
) -> None:
    body = {"model": "gpt-4.1", "messages": HELLO, "stream": True}
    direct = httpx.post(f"{simulated_upstream}/v1/chat/completions", json=body)
    through = proxy.post("/v1/chat/completions", proxy.key(), body)
    number = direct.text.split('"id":"')[1].split('"')[0]
    other = through.text.split('"id":"')[1].split('"')[0]
    assert through.text == direct.text.replace(number, other)


def test_openai_stream_shows_requested_usage(proxy: Running) -> None:
    client = proxy.openai(proxy.key())
    *_, last = client.chat.completions.create(
        model="gpt-4.1", messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    (row,) = proxy.calls()
    assert (last.usage.prompt_tokens, last.usage.completion_tokens) == (row.input, row.output)


def test_openai_responses(proxy: Running, steer: Any) -> None:
    client = proxy.openai(proxy.key())
    options = steer(input=900, cached=100, output=40, reasoning=10)
    whole = client.responses.create(model="gpt-5-mini", input="Hello", extra_headers=options)
    assert whole.output_text == "Simulated answer to: Hello"
    events = list(
        client.responses.create(
            model="gpt-5-mini", input="Hello", stream=True, extra_headers=options
        )
    )
    assert events[-1].type == "response.completed"
    first, second = proxy.calls()
    expected = price(
        "gpt-5-mini",
        "openai",
        input_tokens=1000,
        cache_read_tokens=100,
        output_tokens=40,
        output_reasoning_tokens=10,
    )
    assert (spent(first), spent(second)) == (expected, expected)
    assert (second.input, second.cache_read, second.output, second.reasoning) == (900, 100, 40, 10)


def test_openai_tools(proxy: Running) -> None:
    client = proxy.openai(proxy.key())
    tool: Any = {
        "type": "function",
        "function": {"name": "container_status", "parameters": TOOL["input_schema"]},
    }
    answer = client.chat.completions.create(model="gpt-4.1", messages=ASKED, tools=[tool])
    (call,) = answer.choices[0].message.tool_calls
    assert call.function.arguments == '{"handle":"demo-1"}'
    result = {"role": "tool", "tool_call_id": call.id, "content": "memory 42 MiB"}
    messages: Any = [*ASKED, answer.choices[0].message.model_dump(exclude_none=True), result]
    final = client.chat.completions.create(model="gpt-4.1", messages=messages, tools=[tool])
    assert "memory 42 MiB" in final.choices[0].message.content


def test_openai_embeddings(proxy: Running) -> None:
    client = proxy.openai(proxy.key())
    answer = client.embeddings.create(model="text-embedding-3-small", input=["a", "b"])
    assert [len(item.embedding) for item in answer.data] == [8, 8]
    (row,) = proxy.calls()
    assert (row.endpoint, row.input, row.output) == ("embeddings", answer.usage.prompt_tokens, 0)
    assert spent(row) == price(
        "text-embedding-3-small", "openai", input_tokens=answer.usage.prompt_tokens
    )


def test_models_and_token_counts_cost_nothing(proxy: Running) -> None:
    key = proxy.key()
    assert proxy.openai(key).models.list().data[0].owned_by == "simulated"
    client = proxy.anthropic(key)
    assert client.models.list().data[0].type == "model"
    assert client.messages.count_tokens(model=SONNET, messages=HELLO).input_tokens > 0
    assert proxy.calls() == []


def test_a_call_can_be_looked_up_by_its_id(proxy: Running) -> None:
    key = proxy.key()
    answer = proxy.anthropic(key).messages.with_raw_response.create(
        model=SONNET, max_tokens=10, messages=HELLO
    )
    call_id = answer.headers["x-telemetry-call-id"]
    url = f"{proxy.url}/api/calls/{call_id}"
    found = httpx.get(url, headers={"authorization": f"Bearer {key}"}).json()
    (row,) = proxy.calls()
    assert found["id"] == call_id
    assert (found["user_id"], found["model"], found["status"]) == ("ann", SONNET, "ok")
    assert found["cost_usd"] == usd(row.cost)
    assert found["tokens"]["output"] == row.output
    assert found["priced"] is True
    other = httpx.get(url, headers={"x-api-key": proxy.key("bob")})
    assert other.status_code == 404
    assert httpx.get(url).status_code == 401


@pytest.mark.parametrize("status", [400, 403, 404, 429, 500, 529])
def test_the_providers_errors_reach_the_sdk_as_they_are(
    proxy: Running, steer: Any, status: int
) -> None:
    client = proxy.anthropic(proxy.key(), max_retries=0)
    with pytest.raises(anthropic.APIStatusError) as caught:
        client.messages.create(
            model=SONNET,
            max_tokens=10,
            messages=HELLO,
            extra_headers=steer(status=status, retry_after=7),
        )
    assert caught.value.status_code == status
    assert caught.value.response.headers["retry-after"] == "7"
    assert caught.value.body["error"]["message"] == "simulated error"
    (row,) = proxy.calls()
    theirs = status >= 500 or status in (403, 429)
    assert row.status == ("upstream_error" if theirs else "client_error")
    assert (row.cost, row.http_status) == (0, status)
    assert proxy.user().reserved == 0


def test_the_sdks_own_retries_work(proxy: Running, steer: Any) -> None:
    client = proxy.openai(proxy.key(), max_retries=2)
    answer = client.chat.completions.create(
        model="gpt-4.1",
        messages=HELLO,
        extra_headers=steer(status=429, times=1, id=proxy.url, retry_after=0),
    )
    assert answer.choices
    assert [row.status for row in proxy.calls()] == ["upstream_error", "ok"]


def test_an_error_within_a_stream_reaches_the_sdk(proxy: Running, steer: Any) -> None:
    key = proxy.key()
    with (
        pytest.raises(anthropic.APIStatusError),
        proxy.anthropic(key).messages.stream(
            model=SONNET,
            max_tokens=100,
            messages=HELLO,
            extra_headers=steer(chunks=20, error_after=5),
        ) as stream,
    ):
        stream.get_final_message()
    with pytest.raises(openai.APIError):
        list(
            proxy.openai(key).chat.completions.create(
                model="gpt-4.1",
                messages=HELLO,
                stream=True,
                extra_headers=steer(chunks=20, error_after=5),
            )
        )
    first, second = proxy.calls()
    assert (first.status, first.output, bool(first.estimated)) == ("upstream_error", CAME, True)
    assert (second.status, second.output, bool(second.estimated)) == ("upstream_error", CAME, True)
    assert first.cost > 0
    assert second.cost > 0
