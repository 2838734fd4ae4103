"""The host agent on a host with containers: its command and its exports."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.fixtures.docker import DockerEngine
from tests.fixtures.otlp import Receiver
from tests.fixtures.stack import until

ENDED = 1  # the flag of a point that ends its series


def sent(otlp: Receiver, name: str, handle: str) -> list[float | None]:
    """Return the values of a container's series in order of arrival; None for its end."""
    found = []
    for request in otlp.metrics:
        for resource in request.resource_metrics:
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    if metric.name != f"platform.container.{name}":
                        continue
                    for point in getattr(metric, metric.WhichOneof("data")).data_points:
                        if any(a.value.string_value == handle for a in point.attributes):
                            found.append(None if point.flags & ENDED else point.as_double)
    return found


@contextmanager
def agent(home: Path, otlp: Receiver, docker_host: str, *args: str) -> Iterator[subprocess.Popen]:
    """A running agent that exports only at events."""
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("OTEL_", "TELEMETRY"))}
    process = subprocess.Popen(
        [sys.executable, "-m", "telemetry", "agent", *args],
        env={
            **environ,
            "DOCKER_HOST": docker_host,
            "TELEMETRY_HOME": str(home),
            "OTEL_EXPORTER_OTLP_ENDPOINT": otlp.url,
            "OTEL_METRIC_EXPORT_INTERVAL": "3600000",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert "watching the containers of" in process.stdout.readline()
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)


@pytest.mark.docker
def test_agent_exports_events_at_once_and_continues_after_a_restart(
    empty_docker: DockerEngine, otlp: Receiver, tmp_path: Path
) -> None:
    container = empty_docker.run("ann")
    with agent(tmp_path, otlp, empty_docker.base_url, "--interval", "1") as process:
        until(lambda: sent(otlp, "up", "ann") == [1])

        def sampled() -> bool:
            container.pause()  # this event also exports the samples so far
            container.unpause()
            return bool(sent(otlp, "memory", "ann"))

        until(sampled)
        container.kill()
        until(lambda: sent(otlp, "up", "ann")[-1:] == [0])
        # It no longer uses any.
        until(lambda: sent(otlp, "memory", "ann")[-1:] == [None])
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
    otlp.metrics.clear()
    with agent(tmp_path, otlp, empty_docker.base_url):
        until(lambda: sent(otlp, "up", "ann") == [0])
        container.remove()
        until(lambda: sent(otlp, "up", "ann")[-1:] == [None])


def test_agent_without_an_engine_logs_it_and_waits(otlp: Receiver, tmp_path: Path) -> None:
    host = f"unix://{tmp_path}/absent.sock"
    with agent(tmp_path, otlp, host) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        assert "no Docker engine answers at" in line
        assert process.poll() is None
        process.terminate()
        assert process.wait(20) == 0


@pytest.mark.parametrize("interval", ["0", "ten"])
def test_invalid_interval_is_refused(interval: str, tmp_path: Path) -> None:
    environ = {**os.environ, "TELEMETRY_HOME": str(tmp_path)}
    environ["TELEMETRY_PLATFORM_SAMPLE_INTERVAL"] = interval
    done = subprocess.run(
        [sys.executable, "-m", "telemetry", "agent"],
        env=environ,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 78
    assert "TELEMETRY_PLATFORM_SAMPLE_INTERVAL" in done.stderr
