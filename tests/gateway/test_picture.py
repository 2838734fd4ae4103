"""The README's picture, docs/shell.png: the web shell over the whole stack, after a kill.

`TELEMETRY_PICTURE=1 nox -s stack -- tests/gateway/test_picture.py` takes it again.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.fixtures.whole import Whole

pytestmark = [pytest.mark.stack, pytest.mark.docker, pytest.mark.browser]

PICTURE = Path(__file__).parents[2] / "docs" / "shell.png"
HANDLE = "demo-1"


def test_shell_shows_what_the_picture_shows(whole: Whole, page: Page) -> None:
    whole.provision(HANDLE, "sh", "-c", "while echo working; do sleep 1; done")
    whole.wait_query(f'platform_container_memory_bytes{{handle="{HANDLE}"}} > 0')
    whole.wait_logs(f'{{handle="{HANDLE}"}} |= "working"')
    page.set_viewport_size({"width": 1000, "height": 620})
    page.goto(whole.url("gateway"))
    page.get_by_label("Token").fill(whole.token("TELEMETRY_GATEWAY_TOKEN"))
    page.get_by_role("button", name="Log in").click()
    expect(page.locator("#state")).to_have_text("connected")
    whole.container(HANDLE).kill()
    notice = page.locator(".alert[data-name=ContainerDown]", has_text=HANDLE)
    expect(notice.locator(".severity")).to_have_text("critical", timeout=30_000)
    page.get_by_role("button", name=f"How is container {HANDLE} doing?").click()
    expect(page.locator(".figures")).to_contain_text("tokens in")
    expect(page.locator(".tools span")).to_have_text(
        ["container_status", "query_metrics", "search_logs", "costs"]
    )
    expect(page.locator(".text")).not_to_contain_text("error")
    if os.environ.get("TELEMETRY_PICTURE"):
        page.screenshot(path=PICTURE, animations="disabled")
    assert whole.ask("platform", "DELETE", f"/api/containers/{HANDLE}").is_success


def test_picture_is_small() -> None:
    assert PICTURE.stat().st_size < 150_000
