"""The simulated model names itself, is deterministic, and follows its steering."""

from __future__ import annotations

import json
from typing import Any

import anthropic
import httpx
import pytest

from telemetry.simulated.script import Directives, Turn, arguments, directives, handle_in, reply

QUESTION = "How is container demo-1 doing?"
HANDLE = {"type": "object", "properties": {"handle": {"type": "string"}}, "required": ["handle"]}
TOOLS = {
    "container_status": HANDLE,
    "query_metrics": {"properties": {"promql": {"type": "string"}}, "required": ["promql"]},
    "search_logs": {
        "properties": {"handle": {}, "query": {}, "limit": {"type": "integer"}},
        "required": ["limit"],
    },
    "costs": {"properties": {"user": {}, "since": {"enum": ["today", "week"]}}},
    "other": {},
}


@pytest.mark.parametrize(
    ("text", "handle"),
    [
        (QUESTION, "demo-1"),
        ("what did the container `web.7` log?", "web.7"),
        ("memory of alice-42?", "alice-42"),
        ("Which container uses most memory?", ""),
        ("Is every container doing well", ""),
        ("Hello", ""),
    ],
)
def test_handle_is_found_in_question(text: str, handle: str) -> None:
    assert handle_in(text) == handle


def test_question_about_container_calls_every_offered_tool() -> None:
    answer = reply(Turn(QUESTION, tools=TOOLS), Directives())
    assert [(call.name, call.arguments) for call in answer.calls] == [
        ("container_status", {"handle": "demo-1"}),
        ("query_metrics", {"promql": 'platform_container_memory_bytes{handle="demo-1"}'}),
        ("search_logs", {"handle": "demo-1", "query": "demo-1", "limit": 10}),
        ("costs", {"user": "demo-1"}),
    ]
    assert reply(Turn("Tell me a joke", tools=TOOLS), Directives()).calls == []


def test_answer_quotes_tool_results() -> None:
    turn = Turn(QUESTION, [("container_status", "cpu 12.5 %"), ("costs", "0.0123 USD")], TOOLS)
    assert "".join(reply(turn, Directives()).words) == (
        "Simulated answer about container demo-1:\n"
        "- container_status: cpu 12.5 %\n- costs: 0.0123 USD"
    )


def test_arguments_follow_the_schema() -> None:
    schema: dict[str, Any] = {
        "properties": {"a": {"enum": ["x", "y"]}, "b": {"default": 3}, "c": {"type": "string"}},
        "required": ["a", "b", "c"],
    }
    assert arguments("any", schema, "") == {"a": "x", "b": 3, "c": ""}


def test_unknown_steering_is_an_error() -> None:
    with pytest.raises(ValueError, match="unknown key 'chunk'"):
        directives("claude-x", "chunk=3", None)
    with pytest.raises(ValueError, match="invalid literal"):
        directives("claude-x", "chunks=many", None)
    assert directives("simulated-cut", "", None).drop_after == 3
    assert directives("gpt-x", "", {"simulated": "chunks=2"}).chunks == 2
    assert directives("claude-x", "", {"user_id": "simulated:chunks=2"}).chunks == 2


def test_every_answer_says_that_it_is_simulated(simulated_upstream: str) -> None:
    body = {"model": "gpt-4.1", "messages": [{"role": "user", "content": "Hi"}]}
    answer = httpx.post(f"{simulated_upstream}/v1/chat/completions", json=body)
    assert answer.headers["x-simulated"] == "true"
    assert "simulated" in answer.json()["id"]
    assert answer.json()["choices"][0]["message"]["content"].startswith("Simulated")
    models = httpx.get(f"{simulated_upstream}/v1/models").json()["data"]
    assert {model["owned_by"] for model in models} == {"simulated"}
    assert httpx.get(f"{simulated_upstream}/health").json()["simulated"] is True


def test_answers_are_deterministic(simulated_upstream: str) -> None:
    body = {"model": "gpt-4.1", "input": ["one", "two"]}
    answers = [httpx.post(f"{simulated_upstream}/v1/embeddings", json=body) for _ in range(2)]
    assert answers[0].json() == answers[1].json()


def test_model_name_selects_behaviour(simulated_upstream: str) -> None:
    def ask(model: str) -> httpx.Response:
        body = {"model": model, "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}
        return httpx.post(f"{simulated_upstream}/v1/messages", json=body)

    assert ask("simulated-claude").status_code == 200
    assert ask("simulated-error").status_code == 500
    assert ask("simulated-overloaded").json()["error"]["type"] == "overloaded_error"
    assert ask("mystery").json()["error"]["type"] == "not_found_error"
    with pytest.raises(json.JSONDecodeError):
        ask("simulated-garbled").json()
    with anthropic.Anthropic(base_url=simulated_upstream, api_key="any", max_retries=0) as client:
        messages: Any = [{"role": "user", "content": "one two three four five"}]
        with (
            client.messages.stream(model="simulated-cut", max_tokens=9, messages=messages) as cut,
            pytest.raises(Exception, match=r"peer closed|incomplete|disconnected"),
        ):
            cut.get_final_text()


@pytest.mark.parametrize("messages", [["no object"], "text", 7])
@pytest.mark.parametrize("path", ["messages", "chat/completions"])
def test_malformed_request_gets_400(simulated_upstream: str, path: str, messages: Any) -> None:
    body = {"model": "simulated-claude", "max_tokens": 10, "messages": messages}
    answer = httpx.post(f"{simulated_upstream}/v1/{path}", json=body)
    assert answer.status_code == 400
    assert "simulated: bad request" in answer.json()["error"]["message"]
