"""The JSON client of the commands."""

from __future__ import annotations

import http.server
import json
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from telemetry.system import json_http
from telemetry.system.json_http import AnswerError


class _Handler(http.server.BaseHTTPRequestHandler):
    def _reply(self) -> None:
        size = int(self.headers.get("content-length") or 0)
        body = self.rfile.read(size)
        if self.path == "/closes":
            self.close_connection = True
            return
        self.send_response(503 if self.path == "/error" else 200)
        self.end_headers()
        if self.path == "/error":
            self.wfile.write(b"the disk is full " * 100)
        elif self.path == "/text":
            self.wfile.write(b"<html>")
        elif self.path != "/empty":
            seen = {
                "method": self.command,
                "path": self.path,
                "type": self.headers.get("content-type"),
                "token": self.headers.get("authorization"),
                "body": body.decode(),
            }
            self.wfile.write(json.dumps(seen).encode())

    do_GET = do_POST = do_DELETE = _reply

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    """Address of a server that answers with the request it received."""
    serving = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=serving.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{serving.server_address[1]}"
    serving.shutdown()
    thread.join()
    serving.server_close()


def test_get_and_post_return_the_json_of_the_answer(server: str) -> None:
    got = json_http.get_json(f"{server}/a?b=c", headers={"authorization": "Bearer x"})
    assert got == {
        "method": "GET",
        "path": "/a?b=c",
        "type": None,
        "token": "Bearer x",
        "body": "",
    }
    posted = json_http.post_json(f"{server}/a", {"é": [1]})
    assert (posted["method"], posted["type"]) == ("POST", "application/json")
    assert json.loads(posted["body"]) == {"é": [1]}
    assert json_http.send(f"{server}/a", method="DELETE").json()["method"] == "DELETE"
    assert json_http.post_json(f"{server}/empty", {}) is None


def test_error_carries_status_url_and_the_beginning_of_the_body(server: str) -> None:
    with pytest.raises(AnswerError, match=r"^answered 503: the disk is full") as caught:
        json_http.get_json(f"{server}/error")
    assert (caught.value.status, caught.value.url) == (503, f"{server}/error")
    assert len(caught.value.body) == json_http.SHOWN_CHARS
    assert server not in str(caught.value), "an address may hold a secret"


def test_answer_that_is_not_json_is_an_error(server: str) -> None:
    with pytest.raises(AnswerError, match=r"^answered something that is not JSON$"):
        json_http.get_json(f"{server}/text")


def test_send_returns_the_answer_even_if_it_is_an_error(server: str) -> None:
    answer = json_http.send(f"{server}/error")
    assert (answer.status, answer.reason) == (503, "Service Unavailable")


def test_missing_answer_is_an_error_without_status(server: str) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{bound.getsockname()[1]}/"
        with pytest.raises(AnswerError, match=r"^does not answer: Connection refused$") as caught:
            json_http.get_json(closed)
    assert caught.value.status == 0
    for broken in (f"{server}/closes", "no address", "http://[::1/"):
        with pytest.raises(AnswerError, match=r"^does not answer: ."):
            json_http.get_json(broken)


def test_request_to_loopback_bypasses_the_proxy(
    server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", f"{server}")
    monkeypatch.setenv("no_proxy", "")
    assert json_http.get_json(f"{server}/direct")["path"] == "/direct"
    elsewhere = json_http.get_json("http://telemetry.example/proxied")
    assert elsewhere["path"] == "http://telemetry.example/proxied"


def test_answer_nested_too_deeply_is_an_error() -> None:
    answer = json_http.Answer("http://127.0.0.1", 200, "OK", b"[" * 100_000)
    with pytest.raises(AnswerError, match="not JSON"):
        answer.json()
