"""The admin page: log-in, content, and its buttons in a real browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Locator, Page, expect
from playwright.sync_api import Route as PageRoute
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from telemetry.services.gateway.app import create_app
from telemetry.services.gateway.settings import Settings as GatewaySettings
from telemetry.services.http import HTTPError
from telemetry.services.login import PAGES as LOGIN_PAGES
from telemetry.services.platform.admin import PAGES
from tests.fixtures.docker import IMAGE, DockerEngine
from tests.fixtures.simulated import served
from tests.fixtures.stack import until
from tests.platform.conftest import ADMIN, TOKEN, Running, Start

ALERT = {
    "status": "firing",
    "labels": {"alertname": "ContainerDown", "severity": "critical", "handle": "ann"},
    "annotations": {"summary": "Container ann is down", "runbook_url": "http://127.0.0.1/runbook"},
    "startsAt": "2026-01-01T00:00:00Z",
    "fingerprint": "f1",
}


@pytest.fixture
def gateway_url(recorded: Any, tmp_path: Any) -> Iterator[str]:
    """A gateway with one firing alert."""
    environ = {
        "TELEMETRY_HOME": str(tmp_path / "gateway"),
        "TELEMETRY_ADMIN_TOKEN": TOKEN,
        "TELEMETRY_WEBHOOK_TOKEN": "hook",
    }
    with served(create_app(GatewaySettings.from_env(environ))) as url:
        hook = {"authorization": "Bearer hook"}
        httpx.post(f"{url}/api/alert", json={"alerts": [ALERT]}, headers=hook).raise_for_status()
        yield url


def log_in(running: Running, token: str, **headers: str) -> httpx.Response:
    return httpx.post(f"{running.url}/admin/login", json={"token": token}, headers=headers)


def test_page_without_log_in_has_no_data(absent: Running) -> None:
    page = httpx.get(f"{absent.url}/admin")
    assert page.text == (PAGES / "index.html").read_text()
    assert 'action="/admin/login"' in httpx.get(f"{absent.url}/admin/login").text
    cookies = {"telemetry_platform": "9999999999.forged"}
    assert httpx.get(f"{absent.url}/admin/dashboard", cookies=cookies).status_code == 401


def test_log_in_opens_a_session_without_a_cookie(absent: Running) -> None:
    answer = log_in(absent, TOKEN)
    assert answer.status_code == 200
    assert "set-cookie" not in answer.headers
    session = answer.json()["session"]
    assert TOKEN not in session
    given = {"authorization": f"Bearer {session}"}
    assert httpx.get(f"{absent.url}/api/containers", headers=given).status_code == 200
    stored = (absent.platform.settings.home / "platform-logins.json").read_text()
    assert session not in stored
    assert httpx.get(f"{absent.url}/api/containers", cookies=answer.json()).status_code == 401
    httpx.post(f"{absent.url}/admin/logout", headers=given).raise_for_status()
    assert httpx.get(f"{absent.url}/api/containers", headers=given).status_code == 401


def test_session_survives_a_restart_unless_the_token_changes(run_platform: Start) -> None:
    with run_platform() as running:
        session = {"authorization": f"Bearer {log_in(running, TOKEN).json()['session']}"}
    with run_platform() as running:
        assert httpx.get(f"{running.url}/api/containers", headers=session).status_code == 200
    with run_platform(TELEMETRY_ADMIN_TOKEN="another") as running:
        assert httpx.get(f"{running.url}/api/containers", headers=session).status_code == 401


def test_log_in_refuses_wrong_tokens_and_other_sites(absent: Running) -> None:
    assert log_in(absent, "guessed").status_code == 401
    evil = {"origin": "http://evil.example"}
    assert log_in(absent, TOKEN, **evil).status_code == 403
    out = httpx.post(f"{absent.url}/admin/logout", headers=evil)
    assert out.status_code == 403
    assert log_in(absent, "x" * 5000).status_code == 413


def test_pages_load_only_from_their_own_origin(absent: Running) -> None:
    """By their policy, and by their content."""
    headers = httpx.get(f"{absent.url}/admin").headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    for page in (*PAGES.iterdir(), *LOGIN_PAGES.iterdir()):
        assert not re.search(r"https?://|innerHTML|\bstyle=|\son\w+=", page.read_text()), page


def test_dashboard_names_what_is_unavailable(absent: Running) -> None:
    body = absent.ask("GET", "/admin/dashboard").json()
    assert body["grafanaUrl"] == "http://127.0.0.1:3200"
    assert (body["containers"], body["alerts"], body["costTodayUsd"]) == ([], [], 0)
    assert "no Docker engine" in body["problems"]["docker"]
    assert "does not answer" in body["problems"]["alerts"]
    assert body["problems"]["costs"] == ""


@pytest.mark.parametrize("answer", ['{"status": "ok"}', "[]", "null", ""])
def test_dashboard_names_a_program_that_is_not_gateway_or_proxy(
    run_platform: Start, answer: str
) -> None:
    async def other(request: Request) -> Response:
        return Response(answer, media_type="application/json")

    routes = [Route("/{path:path}", other, methods=["GET", "POST"])]
    with (
        served(Starlette(routes=routes)) as url,
        run_platform(TELEMETRY_GATEWAY_URL=url, TELEMETRY_PROXY_URL=url) as running,
    ):
        problems = dashboard(running)["problems"]
        assert problems["alerts"] == f"what answers at {url} is not the gateway"
        assert problems["costs"].startswith(f"the proxy at {url} answered something")
        with pytest.raises(HTTPError) as refused:
            running.platform.keys.create("ann")
    assert refused.value.status == 503
    assert "TELEMETRY_PROXY_URL" in refused.value.remedy


def test_dashboard_has_costs_and_alerts(run_platform: Start, gateway_url: str) -> None:
    with run_platform(TELEMETRY_GATEWAY_URL=gateway_url) as running:
        store, keys = running.platform.store, running.platform.keys
        for handle in ("ann", "bob"):
            store.begin(handle, {"image": IMAGE})
        call = {"model": "claude-sonnet-4-6", "max_tokens": 50}
        httpx.post(
            f"{running.proxy_url}/v1/messages",
            json={**call, "messages": [{"role": "user", "content": "Hello"}]},
            headers={"x-api-key": keys.create("ann").secret},
        ).raise_for_status()
        body = until(lambda: (b := dashboard(running))["costTodayUsd"] and b)
    ann, bob = body["containers"]
    assert ann["cost_today_usd"] == body["costTodayUsd"] > 0
    assert bob["cost_today_usd"] == 0
    (alert,) = body["alerts"]
    assert (alert["name"], alert["severity"]) == ("ContainerDown", "critical")


def dashboard(running: Running) -> dict[str, Any]:
    found: dict[str, Any] = running.ask("GET", "/admin/dashboard").json()
    return found


# --- in a browser -----------------------------------------------------------------------------


def row(page: Page, handle: str) -> Locator:
    return page.locator(f"[data-handle='{handle}']")


def enter(page: Page, running: Running) -> None:
    page.goto(f"{running.url}/admin")
    page.get_by_label("Token").fill(TOKEN)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("button", name="Provision")).to_be_visible()


@pytest.mark.docker
@pytest.mark.browser
def test_container_is_provisioned_watched_and_removed_on_the_page(
    run_platform: Start,
    empty_docker: DockerEngine,
    gateway_url: str,
    page: Page,
    complaints: list[str],
) -> None:
    with run_platform(
        DOCKER_HOST=empty_docker.base_url, TELEMETRY_GATEWAY_URL=gateway_url
    ) as running:
        page.goto(f"{running.url}/admin")
        page.get_by_label("Token").fill("guessed")
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert")).to_have_text("The token is wrong.")
        enter(page, running)
        expect(page.get_by_text("No containers yet.")).to_be_visible()
        expect(page.locator("#alerts")).to_contain_text("Container ann is down")
        expect(page.get_by_role("link", name="Open Grafana")).to_have_attribute(
            "href", "http://127.0.0.1:3200"
        )

        page.get_by_role("button", name="Provision").click()
        form = page.locator("#new")
        form.get_by_label("Handle").fill("ann")
        form.get_by_label("Image").fill("nothing-of-the-kind:1")
        form.get_by_role("button", name="Provision").click()
        expect(form.get_by_role("alert")).to_contain_text("is not on this machine")
        form.get_by_label("Image").fill(IMAGE)
        form.get_by_label("Command").fill("trap exit TERM; echo hello; while :; do :; done")
        form.get_by_label("Memory, MiB").fill("32")
        form.get_by_label("Cores").fill("0.5")
        form.get_by_role("button", name="Provision").click()
        ann = row(page, "ann")
        expect(ann).to_contain_text("running")
        busy = ann.get_by_role("img", name=re.compile(r"CPU: [1-9]\d*\."))
        expect(busy).to_be_visible(timeout=30_000)
        expect(ann).to_contain_text("of 32.0 MiB")
        expect(ann).to_contain_text("$0.00 today")

        ann.get_by_role("button", name="Logs").click()
        expect(page.locator("#lines")).to_have_text("hello\n")
        page.get_by_role("button", name="Close").click()
        ann.get_by_role("button", name="Stop").click()
        expect(ann).to_contain_text("stopped", timeout=20_000)
        expect(page.locator("#down")).to_have_text("0")
        ann.get_by_role("button", name="Start").click()
        expect(ann).to_contain_text("running", timeout=20_000)
        empty_docker.client.containers.get("telemetry-ann").kill()
        expect(ann).to_contain_text("down: exited", timeout=20_000)
        expect(page.locator("#down")).to_have_text("1")

        ann.get_by_role("button", name="Remove").click()
        page.locator("#sure").get_by_role("button", name="Cancel").click()
        expect(ann).to_be_visible()
        ann.get_by_role("button", name="Remove").click()
        page.locator("#sure").get_by_role("button", name="Remove").click()
        expect(ann).not_to_be_visible(timeout=20_000)
        assert empty_docker.client.containers.list(all=True) == []
        page.get_by_role("button", name="Log out").click()
        expect(page.get_by_label("Token")).to_be_visible()


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_fits_a_phone_in_light_and_dark(
    absent: Running, browser: Browser, scheme: Any
) -> None:
    """Nothing is wider than the screen, buttons are large enough, text has contrast."""
    store = absent.platform.store
    for handle in ("ann", "a-handle-that-is-as-long-as-a-handle-may-be-which-is-63-letters"):
        store.begin(handle, {"image": "registry.example/of/some/length/image:2026-01-01"})
        store.change(handle, phase="made", wanted=True)
    context = browser.new_context(viewport={"width": 360, "height": 740}, color_scheme=scheme)
    page = context.new_page()
    enter(page, absent)
    expect(row(page, "ann")).to_contain_text("unknown")
    expect(page.locator("#problems")).to_contain_text("no Docker engine answers")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    box = row(page, "ann").get_by_role("button", name="Remove").bounding_box()
    assert box is not None
    assert box["height"] >= 32
    dark = page.evaluate(
        "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).every(c => c < 64)"
    )
    assert dark is (scheme == "dark")
    context.close()


@pytest.mark.browser
def test_page_waits_for_a_slow_answer_before_it_asks_again(absent: Running, page: Page) -> None:
    held: list[PageRoute] = []
    page.route("**/admin/dashboard", lambda route: held.append(route))
    page.clock.install()
    page.goto(f"{absent.url}/admin")
    page.get_by_label("Token").fill(TOKEN)
    with page.expect_request("**/admin/dashboard"):
        page.get_by_role("button", name="Log in").click()
    page.clock.run_for(30_000)
    assert len(held) == 1
    with page.expect_response("**/admin/dashboard"):
        held[0].continue_()
    expect(page.get_by_text("No containers yet.")).to_be_visible()
    with page.expect_request("**/admin/dashboard"):
        page.clock.run_for(3000)


def test_bearer_token_opens_the_page(absent: Running) -> None:
    page = httpx.get(f"{absent.url}/admin", headers=ADMIN)
    assert "Provision" in page.text


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "evil.example"}, 421),
        ({"origin": "http://127.0.0.1:5000"}, 403),
        ({"sec-fetch-site": "same-site", "sec-fetch-mode": "cors"}, 403),
    ],
    ids=str,
)
@pytest.mark.parametrize("path", ["/admin", "/api/containers", "/health", "/nothing"])
def test_pages_of_other_hosts_and_ports_are_refused(
    absent: Running, path: str, headers: dict[str, str], status: int
) -> None:
    refused = absent.ask("GET", path, headers={**ADMIN, **headers})
    assert refused.status_code == status
    assert refused.json()["error"]["message"]
    assert "frame-ancestors 'none'" in refused.headers["content-security-policy"]
