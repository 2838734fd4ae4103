"""Invalid requests and failing upstreams: the right status and a remedy, in the caller's format."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable
from typing import Any

import anthropic
import httpx
import openai
import pytest

from telemetry import testing
from telemetry.services.proxy.ledger import accounts
from telemetry.services.proxy.pricing.estimate import input_estimate
from telemetry.simulated.app import Dropped
from tests.fixtures.simulated import served
from tests.ports import free_port
from tests.proxy.conftest import HELLO, MESSAGE, Running, still_works

Start = Callable[..., Running]
CHAT = {"model": "gpt-4.1", "messages": HELLO}
BOTH = pytest.mark.parametrize(
    ("path", "body"), [("/v1/messages", MESSAGE), ("/v1/chat/completions", CHAT)]
)


def message_of(response: httpx.Response) -> str:
    """The message, from the form that the path's provider uses."""
    body = response.json()
    if response.request.url.path == "/v1/messages":
        assert body["type"] == "error"
        assert body["error"]["type"]
    else:
        assert set(body["error"]) == {"message", "type", "param", "code"}
    return str(body["error"]["message"])


@BOTH
def test_unknown_missing_and_revoked_keys(proxy: Running, path: str, body: Any) -> None:
    unknown = proxy.post(path, "tk-wrong", body)
    assert (unknown.status_code, "unknown" in message_of(unknown)) == (401, True)
    missing = httpx.post(proxy.url + path, json=body)
    assert (missing.status_code, "no key" in message_of(missing)) == (401, True)
    engine = proxy.proxy.ledger.engine
    made = accounts.create_key(engine, "ann", {})
    assert proxy.post(path, made.key, body).status_code == 200
    accounts.revoke_key(engine, made.id)
    revoked = proxy.post(path, made.key, body)
    assert (revoked.status_code, "revoked" in message_of(revoked)) == (401, True)
    assert len(proxy.calls()) == 1


@BOTH
@pytest.mark.parametrize("size", ["content-length: 9000000", "transfer-encoding: chunked"])
def test_large_body_without_a_key_is_refused_unread(
    proxy: Running, path: str, body: Any, size: str
) -> None:
    """Of the request no more than the head is ever sent."""
    made = accounts.create_key(proxy.proxy.ledger.engine, "ann", {})
    accounts.revoke_key(proxy.proxy.ledger.engine, made.id)
    for key, said in (("tk-wrong", b"unknown"), (made.key, b"revoked")):
        head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\nx-api-key: {key}\r\n{size}\r\n\r\n"
        with socket.create_connection(("127.0.0.1", httpx.URL(proxy.url).port), 10) as client:
            client.sendall(head.encode())
            answer = b""
            while said not in answer:
                part = client.recv(65536)
                assert part, answer
                answer += part
        assert answer.startswith(b"HTTP/1.1 401 ")
    assert proxy.calls() == []


@BOTH
def test_large_body_with_an_unknown_key_gets_401(proxy: Running, path: str, body: Any) -> None:
    large = {**body, "padding": "x" * 9_000_000}
    answer = proxy.post(path, "tk-wrong", large)
    assert (answer.status_code, "unknown" in message_of(answer)) == (401, True)
    still_works(proxy)


@BOTH
@pytest.mark.parametrize("padding", [0, 100_000])
def test_large_bodies_are_decoded_in_a_thread(
    proxy: Running, path: str, body: Any, padding: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_loop = []

    def noted(*args: Any) -> Any:
        in_loop.append(asyncio._get_running_loop() is not None)
        return input_estimate(*args)

    monkeypatch.setattr("telemetry.services.proxy.http.generate.input_estimate", noted)
    answer = proxy.post(path, proxy.key(), {**body, "padding": "x" * padding})
    assert answer.status_code == 200
    assert in_loop == [not padding]
    wrong = proxy.post(path, proxy.key(), b'{"padding": "' + b"x" * padding)
    assert (wrong.status_code, "not valid JSON" in message_of(wrong)) == (400, True)


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens"])
def test_request_with_too_many_values_gets_413(proxy: Running, path: str) -> None:
    raw = json.dumps(MESSAGE).encode()[:-1] + b', "padding": [' + b"[]," * 1_000_000 + b"1]}"
    answer = proxy.post(path, proxy.key(), raw)
    assert (answer.status_code, "2,000,000" in answer.text) == (413, True)
    assert proxy.calls() == []
    still_works(proxy)


@BOTH
def test_deeply_nested_request_reaches_the_provider(proxy: Running, path: str, body: Any) -> None:
    raw = json.dumps({**body, "image": "x" * 3000}).encode()[:-1]
    deep = raw + b', "deep": ' + b"[" * 800 + b"]" * 800 + b"}"
    assert proxy.post(path, proxy.key(), deep).status_code == 200
    assert proxy.user().reserved == 0


def test_sdks_raise_their_own_exceptions_for_our_errors(proxy: Running) -> None:
    with pytest.raises(anthropic.AuthenticationError):
        proxy.anthropic("tk-wrong").messages.create(**MESSAGE)
    with pytest.raises(openai.AuthenticationError):
        proxy.openai("tk-wrong").chat.completions.create(**CHAT)


@BOTH
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{not json", "not valid JSON"),
        (b"\xff\xfe", "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b"[1]", "JSON object"),
        (b"{}", "`model` is missing"),
        (b'{"model": 3}', "`model` is missing"),
        (b'{"model": "a\\u0000b"}', "not a model's name"),
        (b'{"model": "gpt-4.1", "max_tokens": "many"}', "whole number"),
        (b'{"model": "gpt-4.1", "max_tokens": -1}', "whole number"),
    ],
)
def test_malformed_request_gets_400(
    proxy: Running, path: str, body: Any, content: bytes, said: str
) -> None:
    answer = proxy.post(path, proxy.key(), content)
    assert (answer.status_code, said in message_of(answer)) == (400, True), message_of(answer)
    assert proxy.calls() == []


@BOTH
def test_absurd_token_limits_are_harmless(proxy: Running, path: str, body: Any) -> None:
    most = 2**63
    answer = proxy.post(path, proxy.key(), {**body, "max_tokens": most, "n": most})
    assert answer.status_code == 200
    poor = proxy.key("poor", daily_budget_usd=1)
    assert proxy.post(path, poor, {**body, "max_tokens": most, "n": most}).status_code == 429
    assert proxy.user().reserved == 0


def test_unmetered_request_is_refused(proxy: Running) -> None:
    key = proxy.key()
    with pytest.raises(openai.BadRequestError, match="background"):
        proxy.openai(key).responses.create(model="gpt-5-mini", input="Hello", background=True)
    with pytest.raises(openai.NotFoundError, match="/v1/images/generations"):
        proxy.openai(key).images.generate(model="gpt-image-1", prompt="a cat")
    with pytest.raises(anthropic.NotFoundError, match="/v1/messages/batches"):
        proxy.anthropic(key).messages.batches.list()
    assert proxy.calls() == []


@BOTH
def test_fifty_megabytes(proxy: Running, path: str, body: Any) -> None:
    large = json.dumps({**body, "padding": "x" * 50_000_000}).encode()
    answer = proxy.post(path, proxy.key(), large)
    assert (answer.status_code, "larger than" in message_of(answer)) == (413, True)

    def pieces() -> Any:
        for start in range(0, len(large), 1_000_000):
            yield large[start : start + 1_000_000]

    chunked = httpx.post(proxy.url + path, content=pieces(), headers={"x-api-key": proxy.key()})
    assert chunked.status_code == 413
    still_works(proxy)


@BOTH
def test_an_unknown_model_gets_the_providers_answer_and_no_label(
    proxy: Running, path: str, body: Any
) -> None:
    answer = proxy.post(path, proxy.key(), {**body, "model": "no-such-model"})
    assert (answer.status_code, "does not exist" in message_of(answer)) == (404, True)
    (row,) = proxy.calls()
    assert (row.status, row.model, bool(row.priced)) == ("client_error", "no-such-model", False)
    shown = [dict(labels) for name, labels in testing.collect() if name == "proxy_api_calls_total"]
    assert {labels["model"] for labels in shown} == {"other"}


@BOTH
def test_unreachable_upstream_gives_502(start_proxy: Start, path: str, body: Any) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    proxy = start_proxy(TELEMETRY_ANTHROPIC_URL=nobody, TELEMETRY_OPENAI_URL=nobody)
    answer = proxy.post(path, proxy.key(), body)
    assert (answer.status_code, "can't be reached" in message_of(answer)) == (502, True)
    (row,) = proxy.calls()
    assert (row.status, row.cost, row.http_status) == ("upstream_error", 0, 502)
    assert proxy.user().reserved == 0


@BOTH
@pytest.mark.parametrize("stream", [False, True])
def test_slow_upstream_gives_504(
    start_proxy: Start, path: str, body: Any, stream: bool, steer: Any
) -> None:
    limit = "TELEMETRY_PROXY_READ_TIMEOUT" if stream else "TELEMETRY_PROXY_TOTAL_TIMEOUT"
    proxy = start_proxy(**{limit: "0.3"})
    answer = proxy.post(path, proxy.key(), {**body, "stream": stream}, **steer(hang=1))
    assert (answer.status_code, "in time" in message_of(answer)) == (504, True)
    (row,) = proxy.calls()
    assert (row.status, row.http_status, bool(row.estimated)) == ("upstream_error", 504, True)
    assert row.input > 0
    assert row.output == 0
    assert row.cost > 0, "the provider has read the prompt, and will want to be paid"
    still_works(start_proxy())  # one that waits longer


@BOTH
def test_broken_json_from_upstream_gives_502(
    proxy: Running, path: str, body: Any, steer: Any
) -> None:
    answer = proxy.post(path, proxy.key(), body, **steer(garbled=1))
    assert (answer.status_code, "broken JSON" in message_of(answer)) == (502, True)
    (row,) = proxy.calls()
    assert (row.status, bool(row.estimated)) == ("upstream_error", True)
    assert row.cost > 0, "the provider has worked, and will want to be paid"


@BOTH
def test_upstream_breaks_off_in_an_error(start_proxy: Start, path: str, body: Any) -> None:
    async def upstream(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            head = {"type": "http.response.start", "status": 400}
            await send({**head, "headers": [(b"content-length", b"100")]})
            await send({"type": "http.response.body", "body": b"{", "more_body": True})
            raise Dropped

    with served(upstream) as url:
        proxy = start_proxy(TELEMETRY_ANTHROPIC_URL=url, TELEMETRY_OPENAI_URL=url)
        answer = proxy.post(path, proxy.key(), body)
        assert (answer.status_code, "broke off" in message_of(answer)) == (502, True)
        (row,) = proxy.calls()
        assert (row.status, row.cost, row.http_status) == ("client_error", 0, 502)


@BOTH
@pytest.mark.parametrize("fault", ["garbled=1", "drop_after=5"])
def test_upstream_breaks_off_in_a_stream(proxy: Running, path: str, body: Any, fault: str) -> None:
    answer = proxy.post(
        path, proxy.key(), {**body, "stream": True}, **{"x-simulated": f"chunks=20,{fault}"}
    )
    assert answer.status_code == 200
    last = answer.text.strip().split("\n\n")[-1]
    assert "broke off" in json.loads(last[last.index("{") :])["error"]["message"]
    (row,) = proxy.calls()
    assert (row.status, bool(row.estimated)) == ("interrupted", True)
    assert row.cost > 0
    assert proxy.user().reserved == 0


@BOTH
def test_missing_provider_key_gives_503(start_proxy: Start, path: str, body: Any) -> None:
    proxy = start_proxy(
        TELEMETRY_ANTHROPIC_URL="https://api.anthropic.invalid",
        TELEMETRY_OPENAI_URL="https://api.openai.invalid",
    )
    answer = proxy.post(path, proxy.key(), body)
    assert (answer.status_code, "_API_KEY" in message_of(answer)) == (503, True)


@BOTH
def test_provider_refusing_our_key_gives_502(
    proxy: Running, path: str, body: Any, steer: Any
) -> None:
    answer = proxy.post(path, proxy.key(), body, **steer(status=401))
    assert (answer.status_code, "this proxy's own key" in message_of(answer)) == (502, True)


@BOTH
def test_spent_budget_gives_429_without_retry(proxy: Running, path: str, body: Any) -> None:
    key = proxy.key(daily_budget_usd="0.0000001")
    answer = proxy.post(path, key, body)
    assert (answer.status_code, "UTC day" in message_of(answer)) == (429, True)
    assert 0 < int(answer.headers["retry-after"]) <= 86_400
    assert answer.headers["x-should-retry"] == "false"
    assert proxy.user().rejections == 1
    with pytest.raises(anthropic.RateLimitError):
        proxy.anthropic(key).messages.create(**MESSAGE)
    with pytest.raises(openai.RateLimitError) as caught:
        proxy.openai(key).chat.completions.create(**CHAT)
    assert caught.value.code == "insufficient_quota"
    assert proxy.user().rejections == 3, "the SDKs were told not to try again"


@BOTH
def test_pages_in_a_browser_and_unknown_hosts_are_refused(
    proxy: Running, path: str, body: Any
) -> None:
    key = proxy.key()
    for headers, status in (
        ({"origin": "http://localhost:3000"}, 403),
        ({"sec-fetch-site": "same-site", "sec-fetch-mode": "cors"}, 403),
        ({"host": "evil.example"}, 421),
    ):
        refused = proxy.post(path, key, body, **headers)
        assert refused.status_code == status
        assert refused.json()["error"]["message"]
    assert proxy.calls() == []
    assert proxy.post(path, key, body, origin=proxy.url).status_code == 200
