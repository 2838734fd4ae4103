"""`telemetry open`: an engine's page, for one browser."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from telemetry.cli import main
from tests.fixtures.stack import Stack, until

ADDRESS = re.compile(r"http://127\.0\.0\.1:\d+/once/\S+(?=,)")


@contextmanager
def opened(stack: Stack, name: str, folder: Path) -> Iterator[str]:
    """Run the command; gives the address that it prints, and opens no browser."""
    log, browser, started = folder / "output", folder / "browser", folder / "started"
    browser.write_text(f'#!/bin/sh\necho "$@" > {started}.new\nmv {started}.new {started}\n')
    browser.chmod(0o755)
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "telemetry", "open", name],
            env=stack.env(BROWSER=str(browser), PYTHONUNBUFFERED="1"),
            stdout=output,
            stderr=output,
        )
    try:
        found = until(lambda: ADDRESS.search(log.read_text()) or process.poll(), what=name)
        assert not isinstance(found, int), log.read_text()
        # Other users can read its command line.
        until(started.exists, what="the browser is started")
        assert "once" not in started.read_text()
        assert started.read_text().startswith(f"file://{stack.home}/open")
        yield found[0]
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0, log.read_text()
    finally:
        process.kill()
        process.wait()


@pytest.mark.stack
def test_page_is_forwarded_below_a_secret_that_is_given_once(stack: Stack, tmp_path: Path) -> None:
    with opened(stack, "alertmanager", tmp_path) as address, httpx.Client() as client:
        entered = client.get(address)
        assert entered.status_code == 303
        assert client.get(address).status_code == 403, "it works once"
        base = str(httpx.URL(address).join(entered.headers["location"]))
        page = client.get(base)
        assert page.status_code == 200
        assert "Alertmanager" in page.text
        assert page.headers["x-frame-options"] == "DENY"
        assert page.headers["referrer-policy"] == "no-referrer"
        navigation = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
        assert client.get(base, headers=navigation).status_code == 200, "it comes from a file"
        status = client.get(f"{base}api/v2/status", headers={"sec-fetch-site": "same-origin"})
        assert status.json()["cluster"]["status"] == "disabled"

        origin = base[: base.index("/", 8)]
        assert client.get(f"{origin}/guessed/api/v2/status").status_code == 403
        for headers in (
            {"sec-fetch-site": "same-site"},
            {"sec-fetch-site": "cross-site"},
            {"host": "rebound.example:80"},
        ):
            assert client.get(f"{base}api/v2/status", headers=headers).status_code == 403, headers


@pytest.mark.stack
def test_engine_that_does_not_run_is_an_error(new_stack: Stack) -> None:
    done = new_stack.run("open", "prometheus", check=False)
    assert done.returncode == 69
    assert "does not answer" in done.stderr
    assert "`telemetry status`" in done.stderr


def test_engine_without_a_page_is_wrong_use(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["open", "loki"]) == 64
    assert "prometheus" in capsys.readouterr().err
