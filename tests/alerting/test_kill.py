"""The open web shell shows a killed container, and its recovery."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.fixtures.stack import until
from tests.fixtures.whole import Whole

pytestmark = [pytest.mark.stack, pytest.mark.docker, pytest.mark.browser]
HANDLE = "kill-me"


def test_shell_shows_a_killed_container_until_it_is_started_again(whole: Whole, page: Page) -> None:
    whole.provision(HANDLE)
    whole.wait_query(f'platform_container_up{{handle="{HANDLE}"}} == 1')
    page.goto(whole.url("gateway"))
    page.get_by_label("Token").fill(whole.token("TELEMETRY_GATEWAY_TOKEN"))
    page.get_by_role("button", name="Log in").click()
    expect(page.locator("#state")).to_have_text("connected")
    notice = page.locator(".alert[data-name=ContainerDown]", has_text=HANDLE)
    for kill in range(3):
        assert notice.count() == 0, kill
        whole.container(HANDLE).kill()
        expect(notice.locator(".severity")).to_have_text("critical", timeout=30_000)
        expect(notice.locator(".summary")).to_have_text(f"Container {HANDLE} is down")
        # The alert continues to fire until the container is up again.
        whole.wait_query(f'count_over_time(ALERTS{{handle="{HANDLE}"}}[12s]) >= 5')
        expect(notice.locator(".severity")).to_have_text("critical")
        assert whole.ask("platform", "POST", f"/api/containers/{HANDLE}/start").is_success
        expect(notice).to_have_class(re.compile("resolved"), timeout=60_000)
        notice.get_by_role("button", name="Hide").click()
    assert whole.ask("platform", "DELETE", f"/api/containers/{HANDLE}").is_success
    until(lambda: not whole.query(f'ALERTS{{handle="{HANDLE}"}}'))
