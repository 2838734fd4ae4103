"""The pages: their headers, what they load, and the log-in form."""

from __future__ import annotations

import re
from collections.abc import Callable

import httpx
import pytest

from telemetry.services.gateway.pages import SHELL
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


def test_page_without_log_in_is_the_log_in_page(gateway: Gateway) -> None:
    assert 'name="token"' in httpx.get(gateway.url).text
    assert 'id="chat"' in httpx.get(gateway.url, headers=TOKEN).text


def test_log_in_checks_token_origin_and_size(gateway: Gateway) -> None:
    def post(body: str, **headers: str) -> httpx.Response:
        return httpx.post(f"{gateway.url}/login", content=body, headers=headers)

    for wrong in ("", "token=", "token=wrong", "other=gateway-secret", "token=%ff"):
        answer = post(wrong)
        assert (answer.status_code, answer.headers["location"]) == (303, "/?wrong"), wrong
        assert "set-cookie" not in answer.headers
    assert post("token=" + "x" * 10_000).status_code == 413
    assert post("token=gateway-secret", origin="https://elsewhere.example").status_code == 403
    answer = post("token=+gateway-secret+", origin=gateway.url)  # pasted with spaces around it
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "samesite=lax" in cookie.lower()
    given = {"cookie": cookie.partition(";")[0]}
    assert httpx.get(f"{gateway.url}/api/alerts", headers=given).status_code == 200
    name, _, value = given["cookie"].partition("=")
    later = str(int(value.partition(".")[0]) + 1) + "." + value.partition(".")[2]
    for forged in (later, value[:-1], f"{'9' * 5000}.{value.partition('.')[2]}", "x.y", ""):
        given = {"cookie": f"{name}={forged}"}
        assert httpx.get(f"{gateway.url}/api/alerts", headers=given).status_code == 401, forged


def test_log_out_deletes_the_cookie_and_checks_the_origin(gateway: Gateway) -> None:
    url = f"{gateway.url}/logout"
    assert httpx.post(url, headers={"origin": "https://elsewhere.example"}).status_code == 403
    answer = httpx.post(url)
    assert answer.status_code == 303
    assert "Max-Age=0" in answer.headers["set-cookie"]


def test_runbooks_have_the_alerts_names_as_ids(gateway: Gateway) -> None:
    assert 'id="containerdown"' in httpx.get(f"{gateway.url}/runbooks").text
