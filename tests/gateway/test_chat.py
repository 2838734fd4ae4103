"""`POST /api/chat`: streamed answers, their cost, and every failure."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import httpx
import pytest

from telemetry import testing
from telemetry.services.proxy.pricing.money import PICO
from tests.fixtures.stack import until
from tests.gateway.conftest import MODEL, TOKEN, Gateway, Process, events, is_called, text_of
from tests.ports import free_port
from tests.proxy.conftest import ADMIN, Running


def test_answer_is_streamed_and_costs_what_the_ledger_says(
    gateway: Gateway, proxy: Running, recorded: testing.Recorded
) -> None:
    received = gateway.ask("Hello out there")
    assert text_of(received) == "Simulated answer to: Hello out there"
    assert len([event for event in received if event["type"] == "delta"]) > 3
    end, done = received[-2:]
    assert end == {"type": "end", "status": "ok", "error": ""}
    (call,) = proxy.calls()
    assert call.user_id == "gateway"
    assert done == {
        "type": "done",
        "status": "ok",
        "error": "",
        "toolsUsed": [],
        "durationMs": done["durationMs"],
        "traceId": call.trace_id,
        "tokensIn": call.input,
        "tokensOut": call.output,
        "costUsd": done["costUsd"],
    }
    assert Decimal(done["costUsd"]) * PICO == call.cost > 0
    (line,) = gateway.lines()
    assert Decimal(str(line["costUsd"])) * PICO == call.cost
    assert line["traceId"] == call.trace_id
    assert recorded.value("gateway_ai_cost_usd_total", model=MODEL) == float(done["costUsd"])
    tokens = "gateway_ai_tokens_total"
    assert recorded.value(tokens, model=MODEL, direction="input") == call.input
    assert recorded.value(tokens, model=MODEL, direction="output") == call.output
    dispatches = "gateway_kernel_dispatch_total"
    assert recorded.value(dispatches, source="api", status="ok") == 1
    assert recorded.value("gateway_kernel_dispatch_duration_seconds", source="api") == 1


def test_callers_trace_continues_to_the_proxy(gateway: Gateway, proxy: Running) -> None:
    traceparent = "00-" + "ab" * 16 + "-" + "cd" * 8 + "-00"
    response = gateway.post("/api/chat", {"message": "Hello"}, traceparent=traceparent)
    assert response.headers["x-trace-id"] == "ab" * 16
    own = gateway.ask("Hello")[-1]["traceId"]
    assert [call.trace_id for call in proxy.calls()] == ["ab" * 16, own]
    assert [line["traceId"] for line in gateway.lines()] == ["ab" * 16, own]


def test_dispatch_with_tools_costs_the_sum_of_its_calls(gateway: Gateway, proxy: Running) -> None:
    received = gateway.ask("How is container demo-1 doing?")
    tools = ["container_status", "query_metrics", "search_logs", "costs"]
    assert [event["name"] for event in received if event["type"] == "tool"] == tools
    text = text_of(received)
    assert text.startswith("Simulated look-up.\n\nSimulated answer about container demo-1:")
    assert "container_status can't reach 127.0.0.1:1" in text, "the model is told, and says so"
    calls = proxy.calls()
    assert len(calls) == 2
    assert Decimal(received[-1]["costUsd"]) * PICO == sum(call.cost for call in calls)
    assert received[-1]["tokensIn"] == sum(call.input for call in calls)
    (line,) = gateway.lines()
    assert line["toolsUsed"] == received[-1]["toolsUsed"] == tools
    assert {call.trace_id for call in calls} == {line["traceId"]}


def test_session_remembers_earlier_turns(
    gateway: Gateway, proxy: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = gateway.ask("Hello", "talk")[-1]
    second = gateway.ask("Hello", "talk")[-1]
    other = gateway.ask("Hello", "other")[-1]
    unnamed = gateway.ask("Hello")[-1]
    # Input tokens are the request's size: the second request includes the first turn.
    assert second["tokensIn"] > first["tokensIn"] == other["tokensIn"] == unnamed["tokensIn"]


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"{", 400, "not JSON"),
        (b"[" * 100_000, 400, "not JSON"),
        (b"[1]", 400, "must be like"),
        (b"{}", 400, '"message" must be text'),
        (b'{"message": "   "}', 400, '"message" must be text'),
        (b'{"message": 5}', 400, '"message" must be text'),
        (b'{"message": "x", "sessionId": "../etc"}', 400, '"sessionId" must be'),
        (b'{"message": "x", "sessionId": ""}', 400, '"sessionId" must be'),
        (b'{"message": "x", "sessionId": 7}', 400, '"sessionId" must be'),
        (json.dumps({"message": "x" * 100_001}).encode(), 400, "100001 characters"),
        (b'{"message": "' + b"x" * 10_000_000, 413, "larger than 1048576 bytes"),
    ],
    ids=lambda value: repr(value)[:24],
)
def test_bad_input_is_refused_with_the_reason(
    gateway: Gateway, body: bytes, status: int, said: str
) -> None:
    response = gateway.post("/api/chat", body)
    assert response.status_code == status
    assert said in response.json()["error"]["message"]
    assert gateway.lines() == []


def test_lone_surrogate_is_replaced(gateway: Gateway) -> None:
    response = gateway.post("/api/chat", b'{"message": "Hello \\ud800 there \xe2\x82\xac"}')
    assert response.status_code == 200
    (line,) = gateway.lines()
    assert line["prompt"] == "Hello ? there €"


def test_only_requests_with_token_and_own_origin_are_answered(gateway: Gateway) -> None:
    def post(**headers: Any) -> int:
        body = {"message": "Hello"}
        return httpx.post(f"{gateway.url}/api/chat", json=body, headers=headers).status_code

    assert post() == 401
    assert post(authorization="Bearer wrong") == 401
    assert post(authorization=b"Bearer wr\xf6ng") == 401
    assert post(cookie=b"telemetry_gateway=9999999999.\xb2") == 401
    assert post(**TOKEN, origin="https://elsewhere.example") == 403
    assert post(**TOKEN, origin="null") == 403
    assert post(**TOKEN, origin="http://[") == 403
    assert post(**TOKEN, origin=gateway.url) == 200
    assert post(**TOKEN) == 200
    for path in ("/api/logs", "/api/alerts"):
        assert httpx.get(f"{gateway.url}{path}").status_code == 401
        assert gateway.get(path).status_code == 200


def test_admin_token_may_read_alerts(gateway: Gateway) -> None:
    assert httpx.get(f"{gateway.url}/api/alerts", headers=ADMIN).status_code == 200


def test_configured_origins_may_call(start_gateway: Callable[..., Gateway]) -> None:
    gateway = start_gateway(TELEMETRY_GATEWAY_ORIGINS="https://ops.example https://b.example")
    assert gateway.post("/api/chat", b"{}", origin="https://ops.example").status_code == 400
    assert gateway.post("/api/chat", b"{}", origin="https://c.example").status_code == 403


def test_full_queue_answers_503_with_retry_after(
    proxy: Running, start_gateway: Callable[..., Gateway], recorded: testing.Recorded
) -> None:
    gateway = start_gateway(
        proxy.url,
        TELEMETRY_MODEL="simulated-slow",
        TELEMETRY_GATEWAY_QUEUE="1",
        TELEMETRY_GATEWAY_CONCURRENCY="1",
    )
    answers: list[list[Any]] = []
    long = "Hi" + ", again" * 8  # seconds' worth of answer
    threads = [
        threading.Thread(target=lambda prompt=prompt: answers.append(gateway.ask(prompt)))
        for prompt in (long, "Hi")
    ]
    threads[0].start()
    until(lambda: is_called(proxy))
    threads[1].start()
    until(lambda: recorded.value("gateway_dispatch_queue_depth") == 1)
    response = gateway.post("/api/chat", {"message": "Hi"})
    assert response.status_code == 503
    assert response.headers["retry-after"] == "5"
    assert "the queue is full" in response.json()["error"]["message"]
    for thread in threads:
        thread.join(30)
    assert [received[-1]["status"] for received in answers] == ["ok", "ok"]
    lines = gateway.wait_lines(3)
    assert sorted(line["status"] for line in lines) == ["ok", "ok", "rejected"]
    dispatches = "gateway_kernel_dispatch_total"
    assert recorded.value(dispatches, source="api", status="rejected") == 1
    assert recorded.value("gateway_dispatch_queue_depth") == 0


def test_client_disconnect_cancels_the_dispatch_and_its_cost_is_logged(
    proxy: Running, start_gateway: Callable[..., Gateway], recorded: testing.Recorded
) -> None:
    gateway = start_gateway(proxy.url, TELEMETRY_MODEL="simulated-slow")
    body = {"message": "one two three four five six"}
    with httpx.stream(
        "POST", f"{gateway.url}/api/chat", json=body, headers=TOKEN, timeout=30
    ) as response:
        assert next(events(response))["type"] == "delta"
    (line,) = gateway.wait_lines()
    assert line["status"] == "cancelled"
    assert line["tokensOut"] > 0, "the proxy's account of the call"
    assert recorded.value("gateway_kernel_dispatch_total", source="api", status="cancelled") == 1


def test_client_disconnect_while_waiting_cancels_the_dispatch(
    proxy: Running, start_gateway: Callable[..., Gateway], recorded: testing.Recorded
) -> None:
    gateway = start_gateway(
        proxy.url, TELEMETRY_MODEL="simulated-slow", TELEMETRY_GATEWAY_CONCURRENCY="1"
    )
    first = "first" + ", again" * 8  # seconds' worth of answer
    running = threading.Thread(target=lambda: gateway.ask(first))
    running.start()
    until(lambda: is_called(proxy))
    body = {"message": "second"}
    with httpx.stream("POST", f"{gateway.url}/api/chat", json=body, headers=TOKEN, timeout=30):
        until(lambda: recorded.value("gateway_dispatch_queue_depth") == 1)
    until(lambda: recorded.value("gateway_dispatch_queue_depth") == 0)
    running.join(30)
    lines = {line["prompt"]: line["status"] for line in gateway.wait_lines(2)}
    assert lines == {first: "ok", "second": "cancelled"}
    assert len(proxy.calls()) == 1, "the model was not asked"


def test_error_names_the_proxy_if_it_is_down(start_gateway: Callable[..., Gateway]) -> None:
    gateway = start_gateway(f"http://127.0.0.1:{free_port()}")
    done = gateway.ask("Hello")[-1]
    assert done["status"] == "error"
    assert "does not answer: is it running?" in done["error"]
    (line,) = gateway.lines()
    assert (line["status"], line["result"], line["costUsd"]) == ("error", done["error"], 0)
    assert gateway.get("/health").json() == {"status": "ok"}


def test_killed_proxy_is_reported_at_once_and_its_cost_is_awaited(
    processes: Callable[..., Process],
    start_gateway: Callable[..., Gateway],
    simulated_upstream: str,
) -> None:
    upstream = {"TELEMETRY_ANTHROPIC_URL": simulated_upstream}
    proxy = processes("proxy", **upstream)
    url = f"http://127.0.0.1:{proxy.port}"
    gateway = start_gateway(url, TELEMETRY_MODEL="simulated-slow")
    body = {"message": "one two three four five six seven"}
    with httpx.stream(
        "POST", f"{gateway.url}/api/chat", json=body, headers=TOKEN, timeout=60
    ) as response:
        received = events(response)
        assert next(received)["type"] == "delta"
        proxy.stop(signal.SIGKILL)
        end = next(event for event in received if event["type"] == "end")
        assert end["status"] == "error"
        assert "closed the connection" in end["error"]
        assert gateway.lines() == [], "the line has the cost, which only the ledger knows"
        processes("proxy", proxy.port, **upstream)
        assert next(received)["type"] == "done"
    (line,) = gateway.lines()
    assert line["status"] == "error"


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("simulated-error", "the proxy answered 500"),
        ("simulated-cut", "broke off"),
        ("simulated-garbled", "malformed"),
        ("unknown-model", "the proxy answered 404"),
    ],
)
def test_failing_model_ends_the_answer_with_an_error(
    proxy: Running, start_gateway: Callable[..., Gateway], model: str, said: str
) -> None:
    gateway = start_gateway(proxy.url, TELEMETRY_MODEL=model)
    received = gateway.ask("Hello out there, my friend")
    done = received[-1]
    assert done["status"] == "error"
    assert said in done["error"]
    (line,) = gateway.lines()
    assert line["status"] == "error"
    assert line["traceId"] == done["traceId"]


def test_spent_budget_is_reported(gateway: Gateway, proxy: Running) -> None:
    gateway.ask("Hello")
    answer = httpx.put(
        f"{proxy.url}/api/users/gateway/budget", json={"daily_budget_usd": "0"}, headers=ADMIN
    )
    assert answer.status_code == 200
    done = gateway.ask("Hello")[-1]
    assert done["status"] == "error"
    assert "the proxy answered 429" in done["error"]
    assert "budget" in done["error"]


def test_revoked_key_is_replaced_also_after_a_restart(
    proxy: Running, start_gateway: Callable[..., Gateway]
) -> None:
    def revoke_all() -> None:
        for key in httpx.get(f"{proxy.url}/api/keys", headers=ADMIN).json()["keys"]:
            httpx.delete(f"{proxy.url}/api/keys/{key['id']}", headers=ADMIN)

    first = start_gateway(proxy.url)
    assert first.ask("Hello")[-1]["status"] == "ok"
    keys = httpx.get(f"{proxy.url}/api/keys", headers=ADMIN).json()["keys"]
    second = start_gateway(proxy.url)
    assert second.ask("Hello")[-1]["status"] == "ok"
    assert httpx.get(f"{proxy.url}/api/keys", headers=ADMIN).json()["keys"] == keys, "remembered"
    revoke_all()
    done = second.ask("Hello")[-1]
    assert (done["status"], done["tokensOut"]) == ("ok", 4), "found with the new key"
    revoke_all()
    assert start_gateway(proxy.url).ask("Hello")[-1]["status"] == "ok"


def test_configured_key_is_not_replaced(
    proxy: Running, start_gateway: Callable[..., Gateway]
) -> None:
    gateway = start_gateway(proxy.url, TELEMETRY_PROXY_KEY=proxy.key("ann"))
    assert gateway.ask("Hello")[-1]["status"] == "ok"
    assert proxy.calls()[0].user_id == "ann"
    gateway = start_gateway(proxy.url, TELEMETRY_PROXY_KEY="tk-wrong")
    done = gateway.ask("Hello")[-1]
    assert "the proxy answered 401" in done["error"]


def test_error_says_how_to_get_a_key_without_the_admin_api(
    start_proxy: Callable[..., Running], start_gateway: Callable[..., Gateway]
) -> None:
    gateway = start_gateway(start_proxy(TELEMETRY_ADMIN_TOKEN="another").url)
    done = gateway.ask("Hello")[-1]
    assert "set TELEMETRY_PROXY_KEY to a key made by `telemetry keys create`" in done["error"]


def test_answer_fails_after_max_turns(
    proxy: Running, start_gateway: Callable[..., Gateway]
) -> None:
    gateway = start_gateway(proxy.url, TELEMETRY_GATEWAY_MAX_TURNS="1")
    done = gateway.ask("How is container demo-1 doing?")[-1]
    assert done["error"].startswith("no answer after 1 model calls")
    assert len(proxy.calls()) == 1
