"""The pages: their headers, what they load, and the log-in form."""

from __future__ import annotations

import re
from collections.abc import Callable

import httpx
import pytest

from telemetry import testing
from telemetry.services.gateway.pages import SHELL
from telemetry.services.guesses import ADDRESS_BURST
from telemetry.services.http import page_headers
from tests.gateway.conftest import TOKEN, Gateway


@pytest.fixture
def gateway(start_gateway: Callable[..., Gateway]) -> Gateway:
    """A gateway without a proxy."""
    return start_gateway()


@pytest.mark.parametrize("path", ["/", "/shell/shell.js", "/shell/shell.css", "/runbooks"])
def test_pages_may_load_only_from_their_own_origin(gateway: Gateway, path: str) -> None:
    headers = gateway.get(path).headers
    policy = dict(
        part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";")
    )
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == "'self'"
    assert policy["frame-ancestors"] == "'none'"
    assert policy["style-src"] == ("'unsafe-inline'" if path == "/runbooks" else "'self'")
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-cache", "an upgrade shows at once"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/nothing"),
        ("GET", "/health"),
        ("GET", "/metrics"),
        ("GET", "/api/alerts"),
        ("GET", "/api/logins"),
        ("POST", "/api/chat"),
        ("DELETE", "/"),
        ("POST", "/login"),
        ("GET", "/login/login.js"),
        ("GET", "/logins"),
    ],
)
def test_every_answer_has_the_security_headers(gateway: Gateway, method: str, path: str) -> None:
    answer = httpx.request(method, gateway.url + path)
    for name, value in page_headers().items():
        if name != "cache-control":
            assert answer.headers[name] == value, name
    assert answer.headers["cache-control"] in ("no-cache", "no-store")


def test_pages_refer_only_to_their_own_origin(gateway: Gateway) -> None:
    for file in SHELL.iterdir():
        text = file.read_text()
        loaded = re.findall(r'(?:src|href|action)="([^"]*)"|url\(([^)]*)\)|from "([^"]+)"', text)
        for address in filter(None, (a or b or c for a, b, c in loaded)):
            assert address.startswith(("/", "./", "data:")), (file.name, address)
            if address.startswith("/shell/"):
                assert gateway.get(address).status_code == 200


@pytest.mark.parametrize("name", ["nothing.js", "index.html", "..%2fapp.py", "%2e%2e%2fapp.py"])
def test_only_scripts_and_style_sheets_of_the_shell_are_served(gateway: Gateway, name: str) -> None:
    assert gateway.get(f"/shell/{name}").status_code == 404


def log_in(gateway: Gateway, token: str = "gateway-secret", **headers: str) -> httpx.Response:
    return httpx.post(f"{gateway.url}/login", json={"token": token}, headers=headers)


def session_of(answer: httpx.Response) -> dict[str, str]:
    return {"authorization": f"Bearer {answer.json()['session']}"}


def test_pages_without_log_in_have_no_data(gateway: Gateway) -> None:
    for path in ("/", "/logins"):
        assert httpx.get(gateway.url + path).text == gateway.get(path).text
    assert 'name="token"' in httpx.get(f"{gateway.url}/login").text
    for path in ("/api/alerts", "/api/logs", "/api/logins"):
        assert httpx.get(gateway.url + path).status_code == 401, path


def test_log_in_checks_token_origin_and_size(gateway: Gateway) -> None:
    for wrong in ("wrong", "", "\0"):
        answer = log_in(gateway, wrong)
        assert answer.status_code == 401, wrong
    for body in (b"", b"token=gateway-secret", b"[]", b"{}", b'{"token": 1}', b"[" * 2000):
        assert httpx.post(f"{gateway.url}/login", content=body).status_code == 400, body
    assert log_in(gateway, "x" * 10_000).status_code == 413
    assert log_in(gateway, origin="https://elsewhere.example").status_code == 403
    answer = log_in(gateway, " gateway-secret ", origin=gateway.url)  # pasted with spaces
    assert answer.status_code == 200
    assert "set-cookie" not in answer.headers, "a browser would send it to every port of the host"
    assert answer.headers["cache-control"] == "no-store"
    given = session_of(answer)
    assert httpx.get(f"{gateway.url}/api/alerts", headers=given).status_code == 200
    assert httpx.get(f"{gateway.url}/api/alerts", cookies=answer.json()).status_code == 401
    for forged in (given["authorization"][:-1], given["authorization"] + "x", "Bearer session-"):
        headers = {"authorization": forged}
        assert httpx.get(f"{gateway.url}/api/alerts", headers=headers).status_code == 401, forged


def test_log_out_ends_the_session_at_once_and_checks_the_origin(gateway: Gateway) -> None:
    given = session_of(log_in(gateway))
    url = f"{gateway.url}/logout"
    evil = {"origin": "https://elsewhere.example"}
    assert httpx.post(url, headers=given | evil).status_code == 403
    assert httpx.get(f"{gateway.url}/api/alerts", headers=given).status_code == 200
    assert httpx.post(url, headers=given).json() == {"ended": 1}
    assert httpx.get(f"{gateway.url}/api/alerts", headers=given).status_code == 401


def test_log_ins_are_listed_and_ended_one_or_all_others(gateway: Gateway) -> None:
    url = f"{gateway.url}/api/logins"
    first, second, third = (session_of(log_in(gateway)) for _ in range(3))
    listed = httpx.get(url, headers=first).json()["logins"]
    assert [one["current"] for one in listed].count(True) == 1
    assert {one["address"] for one in listed} == {"127.0.0.1"}
    (mine,) = (
        one["id"] for one in httpx.get(url, headers=second).json()["logins"] if one["current"]
    )
    assert httpx.delete(f"{url}/{mine}", headers=first).json() == {"ended": 1}
    assert httpx.delete(f"{url}/{mine}", headers=first).status_code == 404
    assert httpx.get(url, headers=second).status_code == 401
    assert httpx.delete(url, headers=first).json() == {"ended": 1}
    assert httpx.get(url, headers=third).status_code == 401
    assert len(httpx.get(url, headers=first).json()["logins"]) == 1
    assert httpx.delete(url, headers=TOKEN).json() == {"ended": 1}, "a script ends all"


def test_guessed_tokens_are_slowed_and_counted(
    gateway: Gateway, recorded: testing.Recorded, caplog: pytest.LogCaptureFixture
) -> None:
    statuses = [log_in(gateway, f"guess-{n}").status_code for n in range(ADDRESS_BURST + 2)]
    assert statuses == [401] * ADDRESS_BURST + [429] * 2
    refused = log_in(gateway)
    assert refused.status_code == 429, "a short token could be guessed otherwise"
    assert int(refused.headers["retry-after"]) > 0
    assert recorded.value("services_requests_refused_total", reason="token") == ADDRESS_BURST
    assert recorded.value("services_requests_refused_total", reason="guesses") == 3
    assert "a client at 127.0.0.1 sent a wrong TELEMETRY_GATEWAY_TOKEN" in caplog.text
    assert "guess-1" not in caplog.text
    elsewhere = httpx.HTTPTransport(local_address="127.0.0.2")
    with httpx.Client(transport=elsewhere) as owner:
        answer = owner.post(f"{gateway.url}/login", json={"token": "gateway-secret"})
        assert answer.status_code == 200
    assert gateway.get("/api/alerts").status_code == 200, "the API has its own count"


def test_runbooks_have_the_alerts_names_as_ids(gateway: Gateway) -> None:
    assert 'id="containerdown"' in httpx.get(f"{gateway.url}/runbooks").text
