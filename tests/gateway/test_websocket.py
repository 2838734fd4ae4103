"""The shell's WebSocket: one session, any number of shells, lost connections."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from telemetry import testing
from telemetry.services.gateway import chat
from tests.fixtures.stack import until
from tests.gateway.conftest import Event, Gateway, is_called, text_of
from tests.proxy.conftest import Running


def receive(shell: ClientConnection, last: str) -> list[Event]:
    """Return events up to and including the first of that type."""
    found: list[Event] = []
    while not found or found[-1]["type"] != last:
        found.append(json.loads(shell.recv(20)))
    return found


def tell(shell: ClientConnection, **message: Any) -> None:
    shell.send(json.dumps(message))


def turns(shell: ClientConnection) -> list[dict[str, Any]]:
    """Return the history that a shell gets first."""
    greeting = {event["type"]: event for event in receive(shell, "ready")}
    return list(greeting["history"]["turns"])


def test_message_gets_a_streamed_answer_and_is_in_the_history(
    gateway: Gateway, recorded: testing.Recorded
) -> None:
    with gateway.shell() as shell:
        assert turns(shell) == []
        assert recorded.value("gateway_ws_connections_active") == 1
        tell(shell, type="message", id="m1", text="Hello there")
        received = receive(shell, "sessions")
    assert received[0] == {"type": "begin", "id": "m1", "text": "Hello there"}
    assert {event["id"] for event in received[:-1]} == {"m1"}
    assert text_of(received) == "Simulated answer to: Hello there"
    done = received[-2]
    assert done["type"] == "done"
    (session,) = received[-1]["sessions"]
    assert (session["id"], session["title"]) == ("s1", "Hello there")
    until(lambda: recorded.value("gateway_ws_connections_active") == 0)
    with gateway.shell() as shell:
        (turn,) = turns(shell)
    said = {"prompt": "Hello there", "answer": text_of(received), "at": turn["at"]}
    assert turn | {"type": "done"} == done | said
    with gateway.shell("another") as shell:
        assert turns(shell) == []
    (line,) = gateway.lines()
    assert (line["source"], line["sessionId"]) == ("web", "s1")


def log_in(gateway: Gateway) -> str:
    answer = httpx.post(f"{gateway.url}/login", json={"token": "gateway-secret"})
    return str(answer.json()["session"])


def test_browser_sends_its_log_in_as_a_subprotocol(gateway: Gateway) -> None:
    session = log_in(gateway)
    url = f"{gateway.url.replace('http', 'ws')}/ws?session=s1"
    with connect(url, subprotocols=["telemetry", session]) as shell:
        assert shell.subprotocol == "telemetry"
        assert turns(shell) == []
    wrong = ["telemetry", "session-wrong"]
    with connect(url, subprotocols=wrong) as shell, pytest.raises(ConnectionClosed) as closed:
        shell.recv(10)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4401


@pytest.mark.parametrize("ended", ["this one", "all others"])
def test_open_connections_of_a_log_in_are_closed_when_it_ends(gateway: Gateway, ended: str) -> None:
    session = log_in(gateway)
    url = f"{gateway.url.replace('http', 'ws')}/ws?session=s1"
    with connect(url, subprotocols=["telemetry", session]) as shell, gateway.shell() as script:
        turns(shell)
        if ended == "this one":
            given = {"authorization": f"Bearer {session}"}
            httpx.post(f"{gateway.url}/logout", headers=given).raise_for_status()
        else:
            given = {"authorization": f"Bearer {log_in(gateway)}"}
            httpx.delete(f"{gateway.url}/api/logins", headers=given).raise_for_status()
        with pytest.raises(ConnectionClosed) as closed:
            receive(shell, "never")
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 4401
        assert turns(script) == [], "a script's token is not a log-in"


def test_only_own_pages_with_a_log_in_can_connect(gateway: Gateway) -> None:
    with pytest.raises(InvalidStatus):
        gateway.shell(origin="https://elsewhere.example")
    with gateway.shell(origin=gateway.url) as shell:
        assert turns(shell) == []
    url = gateway.url.replace("http", "ws")
    for address, code in ((f"{url}/ws?session=s1", 4401), (f"{url}/ws", 4401)):
        # After accept: a page can't distinguish a refused handshake from a lost connection.
        with connect(address) as shell, pytest.raises(ConnectionClosed) as closed:
            shell.recv(10)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == code
    with gateway.shell("../x") as shell, pytest.raises(ConnectionClosed) as closed:
        shell.recv(10)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4400


@pytest.mark.parametrize(
    "sent",
    [
        "{",
        "[" * 100_000,
        "[]",
        "{}",
        '{"type": "strange"}',
        '{"type": "message"}',
        '{"type": "message", "id": "../", "text": "x"}',
        b"bytes",
    ],
    ids=lambda sent: repr(sent)[:30],
)
def test_malformed_message_closes_the_connection(gateway: Gateway, sent: Any) -> None:
    with gateway.shell() as shell:
        turns(shell)
        shell.send(sent)
        with pytest.raises(ConnectionClosed) as closed:
            receive(shell, "never")
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1007
    assert gateway.lines() == []


def test_empty_message_is_refused_and_the_connection_stays_open(gateway: Gateway) -> None:
    with gateway.shell() as shell:
        turns(shell)
        tell(shell, type="message", id="m1", text="  ")
        (refused,) = receive(shell, "done")
        assert refused["id"] == "m1"
        assert "not empty" in refused["error"]
        tell(shell, type="message", id="m2", text="Hello")
        assert receive(shell, "done")[-1]["status"] == "ok"


def test_shell_that_reads_nothing_is_disconnected_and_others_are_served(
    gateway: Gateway, recorded: testing.Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The handshake by hand: a client library would read in the background."""
    monkeypatch.setattr(chat, "CLOSE_TIMEOUT_S", 0.1)
    parts = urlsplit(gateway.url)
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect((parts.hostname, parts.port))
        client.sendall(
            b"GET /ws?session=s9 HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\n"
            b"upgrade: websocket\r\nsec-websocket-version: 13\r\n"
            b"sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
            b"authorization: Bearer gateway-secret\r\n\r\n"
        )
        got = b""
        while not got.endswith(b"\r\n\r\n"):
            got += client.recv(1)
        empty = json.dumps({"type": "message", "id": "m", "text": " "}).encode()
        frame = b"\x81" + bytes([0x80 | len(empty)]) + b"\0\0\0\0" + empty
        with suppress(ConnectionResetError, BrokenPipeError):
            for _ in range(400):
                client.sendall(frame * 1000)
        assert recorded.value("services_requests_refused_total", reason="slow") == 1
        until(lambda: recorded.value("gateway_ws_connections_active") == 0)
        with gateway.shell() as shell:
            assert turns(shell) == []


def test_all_shells_of_a_session_get_the_answer(gateway: Gateway) -> None:
    with gateway.shell() as one, gateway.shell() as two, gateway.shell("else") as other:
        for shell in (one, two, other):
            turns(shell)
        tell(one, type="message", id="m1", text="Hello")
        assert receive(one, "done") == receive(two, "done")
        tell(other, type="message", id="m2", text="Hi")
        assert {event.get("id") for event in receive(other, "done")} == {"m2"}


SECONDS_LONG = "Hello out there" + ", again" * 12


def test_reconnected_shell_gets_the_whole_running_answer(
    proxy: Running, start_gateway: Callable[..., Gateway]
) -> None:
    gateway = start_gateway(proxy.url, TELEMETRY_MODEL="simulated-slow")
    with gateway.shell() as shell:
        turns(shell)
        tell(shell, type="message", id="m1", text=SECONDS_LONG)
        receive(shell, "delta")
    with gateway.shell() as shell:
        greeting = receive(shell, "ready")
        assert {"type": "begin", "id": "m1", "text": SECONDS_LONG} in greeting
        # Sent again by a shell that does not know whether it arrived: there is no second answer.
        tell(shell, type="message", id="m1", text=SECONDS_LONG)
        received = receive(shell, "done")
        assert text_of(received) == f"Simulated answer to: {SECONDS_LONG}"
        tell(shell, type="message", id="m1", text=SECONDS_LONG)
        tell(shell, type="message", id="m2", text="Hi")
        assert receive(shell, "begin")[-1]["id"] == "m2"
        tell(shell, type="cancel")
        receive(shell, "done")
    assert [line["prompt"] for line in gateway.wait_lines(2)] == [SECONDS_LONG, "Hi"]


def test_cancel_ends_running_and_waiting_dispatches(
    proxy: Running, start_gateway: Callable[..., Gateway]
) -> None:
    gateway = start_gateway(proxy.url, TELEMETRY_MODEL="simulated-slow")
    with gateway.shell() as shell:
        turns(shell)
        tell(shell, type="message", id="m1", text="one two three four five six seven eight")
        tell(shell, type="message", id="m2", text="and this")
        receive(shell, "delta")
        tell(shell, type="cancel")
        ends: dict[str, str] = {}
        while len(ends) < 2:
            event = json.loads(shell.recv(20))
            if event["type"] == "end":
                ends[event["id"]] = event["status"]
        assert ends == {"m1": "cancelled", "m2": "cancelled"}
    lines = gateway.wait_lines(2)
    assert [line["status"] for line in lines] == ["cancelled"] * 2


def test_call_cancelled_before_its_first_byte_is_charged_and_logged(
    proxy: Running, start_gateway: Callable[..., Gateway]
) -> None:
    gateway = start_gateway(proxy.url, TELEMETRY_MODEL="simulated-slow")
    with gateway.shell() as shell:
        turns(shell)
        tell(shell, type="message", id="m1", text="Hello out there")
        until(lambda: is_called(proxy))
        tell(shell, type="cancel")
        end = receive(shell, "end")[-1]
        assert end["status"] == "cancelled", "at once, a second before the model begins"
        assert proxy.is_open()
        done = receive(shell, "done")[-1]
    (call,) = proxy.calls()
    assert (done["tokensIn"], done["tokensOut"]) == (call.input, call.output)
    (line,) = gateway.lines()
    assert (line["status"], line["tokensIn"]) == ("cancelled", call.input)
    assert call.input > 0


def test_full_queue_is_reported(proxy: Running, start_gateway: Callable[..., Gateway]) -> None:
    gateway = start_gateway(
        proxy.url,
        TELEMETRY_MODEL="simulated-slow",
        TELEMETRY_GATEWAY_QUEUE="1",
        TELEMETRY_GATEWAY_CONCURRENCY="1",
    )
    with gateway.shell() as shell:
        turns(shell)
        for n in range(3):
            tell(shell, type="message", id=f"m{n}", text="Hello")
        refused = receive(shell, "done")[-1]
        assert (refused["id"], refused["status"]) == ("m2", "rejected")
        assert refused["error"] == "the queue is full: try again"
        tell(shell, type="cancel")
    assert len(gateway.wait_lines(3)) == 3
