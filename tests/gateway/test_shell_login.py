"""The log-in of the web shell in a real browser."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from tests.fixtures.simulated import served
from tests.fixtures.stack import until
from tests.gateway.conftest import Gateway

pytestmark = pytest.mark.browser


def stored(page: Page) -> dict[str, str]:
    """Return the page's own storage."""
    found: dict[str, str] = page.evaluate("Object.fromEntries(Object.entries(localStorage))")
    return found


def test_log_in_and_log_out(gateway: Gateway, page: Page, complaints: list[str]) -> None:
    page.goto(gateway.url)
    page.get_by_label("Token").fill("wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_have_text("The token is wrong.")
    page.get_by_label("Token").fill("gateway-secret")
    page.keyboard.press("Enter")
    expect(page.locator("#state")).to_have_text("connected")
    assert page.context.cookies() == [], "they would go to every port of this host"
    (session,) = [v for k, v in stored(page).items() if k.startswith("login:")]
    assert "gateway-secret" not in session
    page.reload()
    expect(page.locator("#state")).to_have_text("connected")
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_label("Token")).to_be_visible()
    assert not [key for key in stored(page) if key.startswith("login:")]
    given = {"authorization": f"Bearer {session}"}
    assert httpx.get(f"{gateway.url}/api/alerts", headers=given).status_code == 401


def test_log_out_in_one_tab_logs_out_all_tabs(
    gateway: Gateway, enter: Callable[[Gateway], Page]
) -> None:
    page = enter(gateway)
    other = page.context.new_page()
    other.goto(gateway.url)
    expect(other.locator("#state")).to_have_text("connected")
    page.get_by_role("button", name="Log out").click()
    expect(other.get_by_label("Token")).to_be_visible()


def test_log_ins_are_shown_and_another_one_is_logged_out(
    gateway: Gateway, enter: Callable[[Gateway], Page], browser: Browser
) -> None:
    page = enter(gateway)
    context = browser.new_context(viewport={"width": 390, "height": 844}, color_scheme="dark")
    phone = context.new_page()
    phone.goto(gateway.url)
    phone.get_by_label("Token").fill("gateway-secret")
    phone.get_by_role("button", name="Log in").click()
    expect(phone.locator("#state")).to_have_text("connected")
    page.get_by_role("link", name="Log-ins").click()
    expect(page.locator("#logins li")).to_have_count(2)
    expect(page.locator("#logins li").first).to_contain_text("This one")
    page.get_by_role("button", name="Log out all others").click()
    expect(page.locator("#logins li")).to_have_count(1)
    expect(phone.get_by_label("Token")).to_be_visible()
    phone.get_by_label("Token").fill("gateway-secret")
    phone.keyboard.press("Enter")
    expect(phone.locator("#state")).to_have_text("connected")
    phone.goto(f"{gateway.url}/logins")
    expect(phone.locator("#logins li")).to_have_count(2)
    assert phone.evaluate("document.documentElement.scrollWidth") == 390
    context.close()


def test_page_of_another_port_gets_nothing(
    gateway: Gateway, enter: Callable[[Gateway], Page]
) -> None:
    """It shares the host, so the browser calls it same-site; it has another origin."""
    page = enter(gateway)
    received: list[dict[str, str]] = []

    async def spy(request: Request) -> Response:
        received.append(dict(request.headers))
        script = f"<script>frame.src = '{gateway.url}/'</script>"
        return HTMLResponse(f"<iframe id=frame></iframe>{script}")

    with served(Starlette(routes=[Route("/", spy)])) as url:
        other = page.context.new_page()
        other.goto(url)
        assert "cookie" not in received[0]
        for call in ("'/api/alerts'", "'/metrics'", "'/health'", "'/logout', {method: 'POST'}"):
            asked = f"fetch('{gateway.url}' + {call}).then(() => 'answered', () => 'refused')"
            assert other.evaluate(asked.replace("' + '", "")) == "refused", call
        socket = f"""new Promise(done => {{
            const socket = new WebSocket("{gateway.url.replace("http", "ws")}/ws?session=s1");
            socket.onopen = () => done("open"); socket.onerror = () => done("refused");
        }})"""
        assert other.evaluate(socket) == "refused"
        frame = other.frames[1]
        until(lambda: other.wait_for_timeout(20) or frame.url.startswith("chrome-error:"))


def test_expired_log_in_shows_the_log_in_page(
    gateway: Gateway, enter: Callable[[Gateway], Page]
) -> None:
    page = enter(gateway)
    expire = "Object.keys(localStorage).forEach(k => localStorage.setItem(k, 'session-x'))"
    page.evaluate(expire)
    page.get_by_role("button", name="New chat").click()
    expect(page.get_by_label("Token")).to_be_visible()
