"""From a container's end to the alert, through the real pipeline and rules."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures.docker import DockerEngine
from tests.fixtures.stack import Stack

pytestmark = [pytest.mark.docker, pytest.mark.stack]

GREEDY = "x=0123456789; while true; do x=$x$x; done"


@pytest.fixture
def agent(stack: Stack, empty_docker: DockerEngine, tmp_path: Path) -> Iterator[None]:
    """An agent that exports once an hour, and at events."""
    process = subprocess.Popen(
        [sys.executable, "-m", "telemetry", "agent"],
        env=stack.service_env(
            TELEMETRY_HOME=str(tmp_path),
            DOCKER_HOST=empty_docker.base_url,
            OTEL_METRIC_EXPORT_INTERVAL="3600000",
        ),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)


def test_events_reach_prometheus_and_alerts_at_once(
    agent: None, stack: Stack, empty_docker: DockerEngine
) -> None:
    def firing(alert: str, handle: str) -> str:
        return f'ALERTS{{alertname="{alert}", alertstate="firing", handle="{handle}"}}'

    up = 'platform_container_up{{handle="{}"}}'.format
    killed, stopped = empty_docker.run("e2e-killed"), empty_docker.run("e2e-stopped")
    for handle in ("e2e-killed", "e2e-stopped"):
        stack.wait_query(f"{up(handle)} == 1")
    killed.kill()
    stack.wait_query(firing("ContainerDown", "e2e-killed"))
    stopped.stop()
    # The series ended at once; a stop by a user does not raise an alert.
    stack.wait_query(up("e2e-stopped"), lambda found: not found)
    empty_docker.run("e2e-greedy", "sh", "-c", GREEDY, mem_limit="24m")
    stack.wait_query(firing("ContainerOOMKilled", "e2e-greedy"))
    killed.remove()
    stack.wait_query(up("e2e-killed"), lambda found: not found)
    stack.wait_query(firing("ContainerDown", "e2e-killed"), lambda found: not found)
    assert stack.query('ALERTS{alertname="ContainerDown", handle="e2e-stopped"}') == []
