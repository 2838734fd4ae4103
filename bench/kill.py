"""Measure the time from `docker kill` to the notice that a person sees, on the whole stack.

    nox -s bench -- kill         (or: python -m bench.kill [--quick] [--kills N])

The platform provisions a real container, and the benchmark kills it without the platform. The
clock stops when the gateway sends the notice over its WebSocket, and when Chromium has drawn it.
Between two kills the container is started again and the notice is resolved. If GRAFANA_BIN or
GRAFANA_HOME is set, Grafana evaluates. Only the model is simulated, and it is not called.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import time
from typing import Any

from playwright.sync_api import Page, sync_playwright
from rich.console import Console
from rich.table import Table
from websockets.sync.client import ClientConnection, connect

from tests.fixtures.browser import ARGUMENTS
from tests.fixtures.docker import private_engine
from tests.fixtures.whole import Whole, whole_stack

HANDLE = "bench-kill"
TIMEOUT_S = 90.0
# After a notice Grafana sends no further one of the same alert for 30 s, its resend delay. A kill
# right after the last one was resolved would measure that.
PAUSE_S = {"prometheus": 0.0, "grafana": 31.0}
# Kills are spread over the time between two evaluations.
PERIOD_S = {"prometheus": 1.0, "grafana": 10.0}
TARGET_S = {"prometheus": 3.0, "grafana": 15.0}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.kill")
    parser.add_argument(
        "--kills", type=int, default=20, metavar="N", help="number of kills (default: 20)"
    )
    parser.add_argument("--quick", action="store_true", help="3 kills, to check that it works")
    args = parser.parse_args()
    grafana = {key: os.environ[key] for key in ("GRAFANA_BIN", "GRAFANA_HOME") if key in os.environ}
    evaluator = "grafana" if grafana else "prometheus"
    more = {**grafana, "TELEMETRY_GRAFANA": "on"} if grafana else {}
    # The default on users' machines; the tests sample more often.
    more["TELEMETRY_PLATFORM_SAMPLE_INTERVAL"] = "15"
    with (
        private_engine() as docker,
        whole_stack(docker, "http://127.0.0.1:9", **more) as stack,
    ):
        measured = measure(
            stack, 3 if args.quick else args.kills, PAUSE_S[evaluator], PERIOD_S[evaluator]
        )
    report(evaluator, *measured)


def measure(
    stack: Whole, kills: int, pause_s: float, period_s: float
) -> tuple[list[float], list[float]]:
    """Measure the seconds from each kill to the notice at the gateway, and in the browser.

    Args:
        stack: the whole stack.
        kills: number of kills.
        pause_s: the shortest pause between two kills.
        period_s: the range of the random time that is added to it.
    """
    at_gateway, on_screen = [], []
    stack.provision(HANDLE)
    stack.wait_query(f'platform_container_up{{handle="{HANDLE}"}} == 1')
    secret = stack.token("TELEMETRY_GATEWAY_TOKEN")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=ARGUMENTS)
        page = browser.new_page()
        page.goto(stack.url("gateway"))
        page.get_by_label("Token").fill(secret)
        page.get_by_role("button", name="Log in").click()
        url = stack.url("gateway").replace("http", "ws") + "/ws?session=bench"
        with connect(url, additional_headers={"authorization": f"Bearer {secret}"}) as shell:
            page.get_by_text("connected", exact=True).wait_for()
            for _ in range(kills):
                container = stack.container(HANDLE)
                watch(page)
                began = time.time()
                container.kill()
                at_gateway.append(wait_for_notice(shell, "firing") - began)
                on_screen.append(wait_until_drawn(page) - began)
                started = stack.ask("platform", "POST", f"/api/containers/{HANDLE}/start")
                assert started.is_success, started.text
                wait_for_notice(shell, "resolved")
                resolved = page.locator(".alert.resolved[data-name=ContainerDown]")
                resolved.get_by_role("button", name="Hide").click()
                time.sleep(pause_s + random.uniform(0, period_s))
        browser.close()
    return at_gateway, on_screen


def wait_for_notice(shell: ClientConnection, status: str) -> float:
    """Wait until the container's alert is ``status`` on the WebSocket; return the time."""
    while True:
        message: dict[str, Any] = json.loads(shell.recv(TIMEOUT_S))
        alert = message.get("alert") or {}
        if alert.get("status") == status and alert["labels"].get("handle") == HANDLE:
            return time.time()


def watch(page: Page) -> None:
    """Make the page record when it draws the notice. Polling would slow it down."""
    page.evaluate(
        """name => {
          window.drawn = new Promise(resolve => {
            const look = () => {
              if (!document.querySelector(name)) return;
              observer.disconnect();
              requestAnimationFrame(() => resolve(Date.now()));
            };
            const observer = new MutationObserver(look);
            observer.observe(document.body, {childList: true, subtree: true});
          });
        }""",
        ".alert[data-name=ContainerDown]:not(.resolved)",
    )


def wait_until_drawn(page: Page) -> float:
    """Wait until the page has drawn the notice; return the time that `watch` recorded."""
    drawn_ms: float = page.evaluate("window.drawn")
    return drawn_ms / 1000


def report(evaluator: str, at_gateway: list[float], on_screen: list[float]) -> None:
    """Print the distribution and the target."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column(f"{len(at_gateway)} kills, {evaluator} evaluates")
    for column in ("median s", "p95 s", "worst s", "target p95"):
        table.add_column(column, justify="right")
    for name, seconds in (("notice at the gateway", at_gateway), ("drawn in Chromium", on_screen)):
        p95 = statistics.quantiles(seconds, n=20, method="inclusive")[-1]
        numbers = (statistics.median(seconds), p95, max(seconds))
        target = TARGET_S[evaluator]
        met = "[green]met[/green]" if p95 <= target else "[red]missed[/red]"
        table.add_row(name, *(f"{n:.2f}" for n in numbers), f"≤ {target:.0f} {met}")
    Console(highlight=False).print(table)


if __name__ == "__main__":
    main()
