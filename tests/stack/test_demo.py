"""`telemetry demo` finds everything that it sent, and what happened to its containers."""

from __future__ import annotations

import re
import signal
import subprocess
import sys

import psutil
import pytest

from tests.fixtures.docker import DockerEngine
from tests.fixtures.stack import Stack, until

pytestmark = pytest.mark.stack


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_interrupted_demo_leaves_only_the_stack_running(
    new_stack: Stack, signum: signal.Signals
) -> None:
    stack = new_stack

    def shops() -> list[psutil.Process]:
        mine = str(stack.home / "data" / "shop.db")
        return [p for p in psutil.process_iter(["cmdline"]) if mine in (p.info["cmdline"] or ())]

    demo = subprocess.Popen(
        [sys.executable, "-m", "telemetry", "demo", "--seconds", "60"],
        env=stack.env(DOCKER_HOST="unix:///nowhere"),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert demo.stdout is not None
    for line in demo.stdout:
        if "users call the simulated model" in line:
            break
    assert shops()
    demo.send_signal(signum)
    printed, _ = demo.communicate(timeout=60)
    assert demo.returncode == 130
    assert "telemetry down" in printed
    assert not shops()
    assert "ready" in stack.run("status", check=False).stdout


@pytest.mark.docker
def test_demo_finds_everything_it_sent(new_stack: Stack, empty_docker: DockerEngine) -> None:
    stack = new_stack
    given = {
        "DOCKER_HOST": empty_docker.base_url,
        "TELEMETRY_DOCKER_CONTAINERS": str(empty_docker.home / "data" / "containers"),
        "TELEMETRY_PLATFORM_NETWORK": f"demo{stack.ports['platform']}",
    }
    done = stack.run("demo", "--seconds", "8", **given)
    printed = " ".join(done.stdout.split())
    assert "3 containers: one keeps running, one is killed, one runs out of memory" in printed

    sent, found = re.search(r"requests to Datasette (\d+) (\d+) Prometheus", printed).groups()  # type: ignore[union-attr]
    assert sent == found != "0"
    sent, found = re.search(r"access log lines (\d+) (\d+) Loki", printed).groups()  # type: ignore[union-attr]
    assert sent == found != "0"
    costs = dict(re.findall(r"(alice|bob|carol) \d+ \d+ \$(\S+)", printed))
    for user, cost in costs.items():
        assert re.search(rf"{user} \d+ \d+ \${cost} \${cost} ", printed), (
            "ledger and Prometheus agree"
        )
    assert float(costs["alice"]) > 0
    assert re.search(r"carol \d+ [1-9]\d* ", printed), "carol's budget is spent, and she is refused"

    # The stack keeps running, and has the state of the containers.
    stack.wait_query(
        'sum by (handle) (platform_container_up{handle=~"demo-.*"})',
        lambda rows: (
            {r["metric"]["handle"]: r["value"][1] for r in rows}
            == {"demo-1": "1", "demo-2": "0", "demo-3": "0"}
        ),
    )
    stack.wait_query('platform_container_oom_kills_total{handle="demo-3"} > 0')
    stack.wait_logs('{service_name="container", handle="demo-1"} |= "working"')
    until(lambda: "ContainerDown" in stack.run("alerts", "list", check=False).stdout)

    again = stack.run("demo", check=False)
    assert again.returncode == 75
    assert "a stack is already running" in again.stderr
