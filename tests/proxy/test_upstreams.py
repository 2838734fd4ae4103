"""Routes, aliases, retries and fallbacks of calls; what reaches the provider."""

from __future__ import annotations

import asyncio
import http.client
import json
import logging
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from telemetry import testing
from telemetry.errors import TelemetryError
from telemetry.services.proxy.settings import Settings, Upstream
from telemetry.services.proxy.upstream.client import UpstreamError, Upstreams, query_of
from telemetry.services.proxy.upstream.request import UpstreamRequest
from telemetry.services.proxy.wires import OPENAI
from telemetry.simulated.app import MODELS
from tests.fixtures.simulated import served
from tests.ports import free_port
from tests.proxy.conftest import HELLO, Running, wait_for

Start = Callable[..., Running]
MESSAGE = {"model": "claude-sonnet-4-6", "max_tokens": 20, "messages": HELLO}
CHAT = {"model": "gpt-4.1", "messages": HELLO}


class Recorder:
    """A provider that notes what it is sent and answers as told."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.targets: list[tuple[bytes, bytes]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        body = b""
        more = True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        headers = {k.decode(): v.decode() for k, v in scope["headers"]}
        self.requests.append((scope["path"], headers, body))
        self.targets.append((scope["raw_path"], scope["query_string"]))
        answer = json.dumps({"id": "x", "usage": {"prompt_tokens": 3, "completion_tokens": 4}})
        sent = [
            (b"content-type", b"application/json"),
            (b"x-request-id", b"req_9"),
            (b"x-telemetry-call-id", b"call_of_another_proxy"),
            (b"set-cookie", b"a=b"),
            (b"anthropic-ratelimit-requests-limit", b"50"),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": sent})
        await send({"type": "http.response.body", "body": answer.encode()})


@pytest.fixture
def recorder() -> Iterator[tuple[Recorder, str]]:
    found = Recorder()
    with served(found) as url:
        yield found, url


def errors() -> dict[tuple[str, str], float]:
    """proxy_upstream_errors_total by provider and kind."""
    return {
        (dict(labels)["provider"], dict(labels)["kind"]): value
        for (name, labels), value in testing.collect().items()
        if name == "proxy_upstream_errors_total"
    }


def upstreams_file(tmp_path: Path, text: str) -> str:
    path = tmp_path / "upstreams.toml"
    path.write_text(text)
    return str(path)


def test_bytes_and_headers_pass_but_no_secrets(
    start_proxy: Start, recorder: tuple[Recorder, str]
) -> None:
    seen, url = recorder
    proxy = start_proxy(TELEMETRY_OPENAI_URL=f"{url}/v1", OPENAI_API_KEY="sk-real-provider-key")
    key = proxy.key()
    raw = b'{"model":"gpt-4.1", "messages":[],\n "odd" : 1.50}'
    answer = httpx.post(
        f"{proxy.url}/v1/chat/completions?beta=true",
        content=raw,
        headers={
            "authorization": f"Bearer {key}",
            "openai-organization": "org",
            "cookie": "a=b",
            "traceparent": "00-" + "1" * 32 + "-" + "2" * 16 + "-01",
        },
    )
    path, headers, body = seen.requests[0]
    assert (path, body) == ("/v1/chat/completions", raw)
    assert headers["authorization"] == "Bearer sk-real-provider-key"
    assert headers["openai-organization"] == "org"
    assert key not in str(headers)
    assert not {"cookie", "traceparent", "x-api-key"} & set(headers)
    assert answer.headers["x-request-id"] == "req_9"
    assert answer.headers["anthropic-ratelimit-requests-limit"] == "50"
    assert "set-cookie" not in answer.headers
    (call_id,) = answer.headers.get_list("x-telemetry-call-id")
    assert call_id != "call_of_another_proxy"
    assert "sk-real-provider-key" not in str(answer.headers) + answer.text


@pytest.mark.parametrize(
    "model",
    [
        "..%2ffiles%2fabc%2fcontent%3flimit=1",
        "%2e%2e/files/abc",
        "..",
        "x/../../files",
        ".%2ffiles",
    ],
)
@pytest.mark.parametrize("version", [{}, {"anthropic-version": "2023-06-01"}])
def test_model_name_cannot_name_another_path(
    start_proxy: Start, recorder: tuple[Recorder, str], model: str, version: dict[str, str]
) -> None:
    seen, url = recorder
    proxy = start_proxy(TELEMETRY_OPENAI_URL=f"{url}/v1", TELEMETRY_ANTHROPIC_URL=f"{url}/v1")
    # Not by httpx, which would make the path shorter itself.
    answer = asked(proxy.url, f"GET /v1/models/{model}", {"x-api-key": proxy.key(), **version})
    assert answer.status_code == 404
    error = answer.json()["error"]
    assert "no upstream of this proxy serves" in error["message"]
    assert error["type"] == ("not_found_error" if version else "invalid_request_error")
    assert seen.requests == []


@pytest.mark.parametrize(
    ("model", "path"),
    [
        ("a%3Flimit=1%23x", b"/v1/models/a%3Flimit%3D1%23x"),
        ("a%0dX-Evil:%201", b"/v1/models/a%0DX-Evil:%201"),
        ("%252e%252e/files", b"/v1/models/%252e%252e/files"),
        ("accounts/me@home/llama:8b", b"/v1/models/accounts/me@home/llama:8b"),
    ],
)
def test_a_models_name_stays_one_path(
    start_proxy: Start, recorder: tuple[Recorder, str], model: str, path: bytes
) -> None:
    seen, url = recorder
    proxy = start_proxy(TELEMETRY_OPENAI_URL=f"{url}/v1")
    answer = asked(proxy.url, f"GET /v1/models/{model}?a=1", {"x-api-key": proxy.key()})
    assert answer.status_code == 200
    assert seen.targets == [(path, b"")]
    assert "x-evil" not in seen.requests[0][1]


def test_model_name_cannot_inject_a_line(
    start_proxy: Start, recorder: tuple[Recorder, str]
) -> None:
    seen, url = recorder
    proxy = start_proxy(TELEMETRY_OPENAI_URL=f"{url}/v1")
    target = "GET /v1/models/a%20HTTP/1.1%0d%0aX-Evil:%201%0d%0a%0d%0aGET%20/v1/files"
    assert asked(proxy.url, target, {"x-api-key": proxy.key()}).status_code == 404
    assert seen.requests == []


def test_query_passes_unchanged_except_invalid_characters() -> None:
    plain = b"beta=true&after=a%2Fb&x[]=~1;,:@!$'()*+|"
    assert query_of(plain) == "?" + plain.decode()
    assert query_of(b"a=1 HTTP/1.1\r\nX: y#z\xff") == "?a=1%20HTTP/1.1%0D%0AX:%20y%23z%FF"
    assert query_of(b"") == ""


def asked(url: str, target: str, headers: dict[str, str]) -> httpx.Response:
    """The answer to a request whose target is sent as it is written."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=10)
    method, path = target.split(" ", 1)
    connection.request(method, path, headers=headers)
    found = connection.getresponse()
    answer = httpx.Response(found.status, content=found.read())
    connection.close()
    return answer


def test_the_providers_key_is_in_no_log_and_no_repr(
    start_proxy: Start, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    nobody = f"http://127.0.0.1:{free_port()}"
    proxy = start_proxy(TELEMETRY_ANTHROPIC_URL=nobody, ANTHROPIC_API_KEY="sk-ant-secret")
    key = proxy.key()
    assert proxy.post("/v1/messages", key, MESSAGE).status_code == 502
    shown = caplog.text + repr(proxy.proxy.settings)
    assert "sk-ant-secret" not in shown
    assert key not in shown
    assert "admin-secret" not in shown


def test_an_alias_and_a_compatible_server(
    start_proxy: Start, recorder: tuple[Recorder, str], tmp_path: Path
) -> None:
    seen, url = recorder
    file = upstreams_file(
        tmp_path,
        f'[upstreams.ollama]\nwire = "openai"\nurl = "{url}/v1"\nmodels = ["llama*"]\n'
        '[aliases]\nlocal = "llama3.2"\n',
    )
    prices = tmp_path / "prices.toml"
    prices.write_text('[models."llama*"]\ninput = "1"\noutput = "2"\n')
    proxy = start_proxy(TELEMETRY_PROXY_UPSTREAMS=file, TELEMETRY_PRICES=str(prices))
    answer = proxy.post("/v1/chat/completions", proxy.key(), {**CHAT, "model": "local"})
    assert answer.status_code == 200
    assert json.loads(seen.requests[0][2]) == {**CHAT, "model": "llama3.2"}
    assert "authorization" not in seen.requests[0][1]
    assert proxy.post("/v1/chat/completions", proxy.key(), CHAT).status_code == 200
    first, second = proxy.calls()
    assert (first.provider, first.model, first.cost) == ("ollama", "llama3.2", 11 * 10**6)
    assert (second.provider, second.model) == ("openai", "gpt-4.1")


def test_a_retry_before_the_first_byte_is_charged_once(proxy: Running, steer: Any) -> None:
    answer = proxy.post(
        "/v1/messages", proxy.key(), MESSAGE, **steer(status=503, times=1, id=f"r{proxy.url}")
    )
    assert answer.status_code == 200
    (row,) = proxy.calls()
    assert (row.status, row.http_status) == ("ok", 200)


def test_long_retry_after_is_passed_on_without_retry(proxy: Running, steer: Any) -> None:
    answer = proxy.post(
        "/v1/messages",
        proxy.key(),
        MESSAGE,
        **steer(status=529, times=1, id=f"b{proxy.url}", retry_after=30),
    )
    assert (answer.status_code, answer.headers["retry-after"]) == (529, "30")


def test_the_fallback_is_charged_at_its_own_price(
    start_proxy: Start, simulated_upstream: str, tmp_path: Path
) -> None:
    file = upstreams_file(
        tmp_path,
        f'[upstreams.first]\nwire = "openai"\nurl = "http://127.0.0.1:{free_port()}/v1"\n'
        'fallback = "second"\nprices = "openai"\n'
        f'[upstreams.second]\nwire = "openai"\nurl = "{simulated_upstream}/v1"\nmodels = []\n'
        'prices = "nowhere"\n',
    )
    proxy = start_proxy(TELEMETRY_PROXY_UPSTREAMS=file)
    assert proxy.post("/v1/chat/completions", proxy.key(), CHAT).status_code == 200
    (row,) = proxy.calls()
    assert (row.provider, row.status, bool(row.priced)) == ("second", "ok", False)
    assert errors() == {("first", "connect"): 1}, "made good, and counted all the same"


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_in_one_piece_is_silent_until_its_end(
    start_proxy: Start, steer: Any, stream: bool
) -> None:
    proxy = start_proxy(TELEMETRY_PROXY_READ_TIMEOUT="0.3")
    body = {**MESSAGE, "stream": stream}
    answer = proxy.post("/v1/messages", proxy.key(), body, **steer(delay=0.8, output=9))
    (row,) = proxy.calls()
    if stream:
        assert (answer.status_code, row.status) == (504, "upstream_error")
    else:
        assert (answer.status_code, row.status, row.output) == (200, "ok", 9)
        assert not row.estimated


def test_call_out_of_time_uses_no_fallback(
    start_proxy: Start,
    recorder: tuple[Recorder, str],
    simulated_upstream: str,
    tmp_path: Path,
    steer: Any,
) -> None:
    seen, url = recorder
    file = upstreams_file(
        tmp_path,
        f'[upstreams.first]\nwire = "openai"\nurl = "{simulated_upstream}/v1"\n'
        'fallback = "second"\n'
        f'[upstreams.second]\nwire = "openai"\nurl = "{url}/v1"\nmodels = []\n',
    )
    proxy = start_proxy(TELEMETRY_PROXY_UPSTREAMS=file, TELEMETRY_PROXY_TOTAL_TIMEOUT="0.3")
    answer = proxy.post("/v1/chat/completions", proxy.key(), CHAT, **steer(hang=1))
    assert answer.status_code == 504
    (row,) = proxy.calls()
    assert (row.provider, row.status, bool(row.estimated)) == ("first", "upstream_error", True)
    assert row.cost > 0
    assert seen.requests == []


async def test_rounding_error_does_not_extend_the_time(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """uvloop's clock counts milliseconds: the end that a call was given and the time at which its
    time-out fires may differ in the last bit."""
    file = upstreams_file(
        tmp_path,
        '[upstreams.first]\nwire = "openai"\nurl = "http://127.0.0.1:9/v1"\nfallback = "second"\n'
        '[upstreams.second]\nwire = "openai"\nurl = "http://127.0.0.1:9/v1"\nmodels = []\n',
    )
    settings = Settings.from_env(
        {"TELEMETRY_HOME": str(tmp_path), "TELEMETRY_PROXY_UPSTREAMS": file}
    )
    upstreams = Upstreams(settings, lambda name, kind: None)
    loop = asyncio.get_running_loop()
    now = loop.time()
    asked = []

    async def timed_out(upstream: Upstream, *args: Any) -> Any:
        asked.append(upstream.name)
        monkeypatch.setattr(loop, "time", lambda: math.nextafter(now + settings.total_timeout_s, 0))
        raise UpstreamError(upstream, "timeout", 504, "in time")

    monkeypatch.setattr(upstreams, "_try", timed_out)
    monkeypatch.setattr(loop, "time", lambda: now)
    first = settings.upstream("first")
    assert first is not None
    with pytest.raises(UpstreamError):
        await upstreams.call(first, UpstreamRequest(OPENAI, "POST", "/chat/completions", []))
    assert asked == ["first"]


def test_models_of_several_upstreams_are_listed_by_route(
    start_proxy: Start, simulated_upstream: str, tmp_path: Path
) -> None:
    file = upstreams_file(
        tmp_path,
        f'[upstreams.local]\nwire = "openai"\nurl = "{simulated_upstream}/v1"\n'
        'models = ["gpt-*"]\n'
        f'[upstreams.down]\nwire = "openai"\nurl = "http://127.0.0.1:{free_port()}/v1"\n'
        'models = ["down-*"]\n[aliases]\nfast = "gpt-5-mini"\n',
    )
    proxy = start_proxy(TELEMETRY_PROXY_UPSTREAMS=file)
    client = proxy.openai(proxy.key())
    listed = [model.id for model in client.models.list()]
    assert listed[:2] == ["gpt-4.1", "gpt-5-mini"], "the file's upstream comes first"
    assert sorted(listed) == sorted(MODELS), "each once, and a server that is down hides none"
    assert client.models.retrieve("fast").id == "gpt-5-mini"
    assert errors() == {("down", "connect"): 1}
    assert proxy.anthropic(proxy.key()).models.list().data[0].type == "model"


def test_missing_key_does_not_hide_local_models(
    start_proxy: Start, simulated_upstream: str, tmp_path: Path
) -> None:
    file = upstreams_file(
        tmp_path, f'[upstreams.local]\nwire = "openai"\nurl = "{simulated_upstream}/v1"\n'
    )
    proxy = start_proxy(
        TELEMETRY_PROXY_UPSTREAMS=file, TELEMETRY_OPENAI_URL="https://api.openai.invalid"
    )
    assert [model.id for model in proxy.openai(proxy.key()).models.list()] == list(MODELS)


def test_upstream_errors_are_counted_by_kind(start_proxy: Start, steer: Any) -> None:
    proxy = start_proxy(TELEMETRY_OPENAI_URL=f"http://127.0.0.1:{free_port()}")
    key = proxy.key()
    proxy.post("/v1/chat/completions", key, CHAT)
    proxy.post("/v1/messages", key, MESSAGE, **steer(status=500))
    proxy.post("/v1/messages", key, MESSAGE, **steer(garbled=1))
    proxy.post("/v1/messages", key, MESSAGE, **steer(status=400))
    wait_for(lambda: len(proxy.calls()) == 4)
    assert errors() == {
        ("openai", "connect"): 1,
        ("anthropic", "http_500"): 1,
        ("anthropic", "garbled"): 1,
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[upstreams.x]\nwire = "soap"\nurl = "http://a/v1"', "wire must be"),
        ('[upstreams.x]\nwire = "openai"\nurl = "ftp://a"', "is not an address"),
        ('[upstreams.x]\nwire = "openai"\nurl = "http://a"\nkey = "sk"', "unknown key 'key'"),
        ('[upstreams.x]\nwire = "openai"\nurl = "http://a"\nfallback = "y"', "fallback 'y'"),
        ("[upstreams", "can't be read"),
        ("[aliases]\na = 1", "aliases must be"),
    ],
)
def test_a_bad_file_of_upstreams_says_what_is_wrong(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(TelemetryError, match=said) as caught:
        Settings.from_env({"TELEMETRY_PROXY_UPSTREAMS": upstreams_file(tmp_path, text)})
    assert caught.value.remedy
