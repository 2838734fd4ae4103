"""A client that disconnects during a call is charged for it."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from telemetry.services.proxy.app import bare_app
from telemetry.services.proxy.http import answer
from telemetry.services.proxy.settings import Settings
from tests.fixtures.simulated import served
from tests.proxy.conftest import HELLO, Running, wait_for

Start = Callable[..., Running]
BODY: dict[str, Any] = {
    "model": "claude-sonnet-4-6",
    "max_tokens": 500,
    "messages": HELLO,
    "stream": True,
}
CHAT: dict[str, Any] = {"model": "gpt-4.1", "messages": HELLO, "stream": True}


def read_some_and_go(proxy: Running, path: str, body: Any, headers: dict[str, str]) -> str:
    """Call, read the first piece of the answer, hang up; the call's id."""
    sent = {"x-api-key": proxy.key(), **headers}
    with httpx.stream("POST", proxy.url + path, json=body, headers=sent, timeout=30) as answer:
        next(answer.iter_raw())
        return answer.headers["x-telemetry-call-id"]


@pytest.mark.parametrize(("path", "body"), [("/v1/messages", BODY), ("/v1/chat/completions", CHAT)])
def test_drained_to_the_end_and_charged_as_reported(
    proxy: Running, path: str, body: Any, steer: Any
) -> None:
    read_some_and_go(proxy, path, body, steer(chunks=20, gap=0.02, input=40, output=321))
    (row,) = wait_for(proxy.calls)
    assert (row.status, row.input, row.output, bool(row.estimated)) == ("ok", 40, 321, False)
    assert row.cost > 0
    assert proxy.user().reserved == 0


def test_drained_within_a_limit_only(start_proxy: Start, steer: Any) -> None:
    proxy = start_proxy(TELEMETRY_PROXY_DRAIN_LIMIT="1")
    read_some_and_go(proxy, "/v1/messages", BODY, steer(chunks=400, gap=0.02, input=40))
    (row,) = wait_for(proxy.calls)
    assert (row.status, row.input, bool(row.estimated)) == ("cancelled", 40, True)
    assert 5 <= row.output < 300, "what came until then"
    assert proxy.user().day_spent == row.cost > 0


@pytest.mark.parametrize(("path", "body"), [("/v1/messages", BODY), ("/v1/chat/completions", CHAT)])
def test_cancelled_by_setting_and_charged_for_what_came(
    start_proxy: Start, simulated_upstream: Any, path: str, body: Any, steer: Any
) -> None:
    proxy = start_proxy(TELEMETRY_PROXY_ON_DISCONNECT="cancel")
    simulator = simulated_upstream.app.state.simulator
    before = simulator.cancelled
    read_some_and_go(proxy, path, body, steer(chunks=400, gap=0.02))
    (row,) = wait_for(proxy.calls)
    assert (row.status, bool(row.estimated), row.http_status) == ("cancelled", True, 499)
    assert row.input > 0
    assert row.output < 100
    assert row.cost > 0
    wait_for(lambda: simulator.cancelled > before)
    assert proxy.user().reserved == 0


def test_client_gone_before_the_first_byte_is_charged(start_proxy: Start, steer: Any) -> None:
    proxy = start_proxy(TELEMETRY_PROXY_ON_DISCONNECT="cancel")
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(
            f"{proxy.url}/v1/messages",
            json=BODY,
            timeout=0.3,
            headers={"x-api-key": proxy.key(), **steer(delay=20)},
        )
    (row,) = wait_for(proxy.calls)
    assert (row.status, row.output, bool(row.estimated)) == ("cancelled", 0, True)
    assert row.cost > 0, "the provider has read the prompt"


def test_unstreamed_call_is_finished_and_charged(proxy: Running, steer: Any) -> None:
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(
            f"{proxy.url}/v1/messages",
            json={**BODY, "stream": False},
            timeout=0.2,
            headers={"x-api-key": proxy.key(), **steer(delay=0.6, output=77)},
        )
    (row,) = wait_for(proxy.calls)
    assert (row.status, row.output, bool(row.estimated)) == ("ok", 77, False)


def test_a_stream_that_an_sdk_closes_is_charged_to_its_end(proxy: Running, steer: Any) -> None:
    key, headers = proxy.key(), steer(chunks=20, gap=0.02, input=40, output=321)
    with proxy.anthropic(key).messages.stream(
        model="claude-sonnet-4-6", max_tokens=500, messages=HELLO, extra_headers=headers
    ) as stream:
        assert next(iter(stream.text_stream)) == "Simulated "
    with proxy.openai(key).chat.completions.create(
        model="gpt-4.1", messages=HELLO, stream=True, extra_headers=headers
    ) as chunks:
        next(iter(chunks))
    rows = wait_for(lambda: len(found := proxy.calls()) == 2 and found)
    for row in rows:
        assert (row.status, row.input, row.output, bool(row.estimated)) == ("ok", 40, 321, False)


async def test_a_cancelled_sdk_call(proxy: Running, steer: Any) -> None:
    import asyncio

    import anthropic

    async with anthropic.AsyncAnthropic(base_url=proxy.url, api_key=proxy.key()) as client:
        call = asyncio.create_task(
            client.messages.create(
                model="claude-sonnet-4-6",
                max_tokens=50,
                messages=HELLO,
                extra_headers=steer(delay=1, output=9),
            )
        )
        await asyncio.to_thread(wait_for, proxy.is_open)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    (row,) = await asyncio.to_thread(wait_for, proxy.calls)
    assert (row.status, row.output) == ("ok", 9)


def test_a_stopping_proxy_charges_what_it_cannot_finish(
    start_proxy: Start, ledger_url: str, simulated_upstream: str, tmp_path: Path, steer: Any
) -> None:
    """The server cancels what outlasts its grace."""
    settings = Settings.from_env(
        {
            "TELEMETRY_HOME": str(tmp_path),
            "TELEMETRY_LEDGER_URL": ledger_url,
            "TELEMETRY_ANTHROPIC_URL": simulated_upstream,
        }
    )
    watcher = start_proxy()
    headers = {"x-api-key": watcher.key(), **steer(delay=30)}
    failures: list[httpx.TransportError] = []

    def begun() -> int:
        with watcher.proxy.ledger.engine.connect() as connection:
            return int(connection.exec_driver_sql("SELECT count(*) FROM calls").scalar() or 0)

    def call(url: str, stream: bool) -> None:
        try:
            body = {**BODY, "stream": stream}
            httpx.post(f"{url}/v1/messages", json=body, timeout=40, headers=headers)
        except httpx.TransportError as error:
            failures.append(error)

    with served(bare_app(settings)) as url:
        threads = [threading.Thread(target=call, args=(url, stream)) for stream in (False, True)]
        for thread in threads:
            thread.start()
        wait_for(lambda: begun() == 2)
    for thread in threads:
        thread.join(20)
    rows = watcher.calls()
    assert [(row.status, bool(row.estimated), row.output) for row in rows] == [
        ("cancelled", True, 0),
        ("cancelled", True, 0),
    ]
    assert all(row.cost > 0 for row in rows), "the provider has read the prompts"
    assert watcher.user().reserved == 0


@pytest.mark.parametrize("ledger_url", ["sqlite"], indirect=True)
def test_stalled_client_is_disconnected(
    start_proxy: Start, steer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answer, "_LATE_S", 0.2)
    # The upstream's time, too: a busy machine takes seconds to make so many chunks.
    proxy = start_proxy(TELEMETRY_PROXY_TOTAL_TIMEOUT="6")
    host, port = proxy.url.removeprefix("http://").split(":")
    body = json.dumps(BODY).encode()
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect((host, int(port)))
        client.sendall(
            b"POST /v1/messages HTTP/1.1\r\nhost: localhost\r\nx-api-key: %b\r\nx-simulated: %b\r\n"
            b"content-length: %d\r\n\r\n%b"
            % (
                proxy.key().encode(),
                steer(chunks=30_000)["x-simulated"].encode(),
                len(body),
                body,
            )
        )
        (row,) = wait_for(proxy.calls)
    assert (row.status, bool(row.estimated)) == ("cancelled", True)
    assert row.output > 1000, "what came until then"
