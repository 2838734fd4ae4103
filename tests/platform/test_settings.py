"""Settings, their documentation, and the platform as a process."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from telemetry.errors import ConfigError
from telemetry.services.http import BODY_BYTES
from telemetry.services.platform.api import TAIL
from telemetry.services.platform.containers.spec import HealthCheck, Spec
from telemetry.services.platform.settings import Settings
from telemetry.system import packaged_files
from tests.fixtures.docker import IMAGE, DockerEngine
from tests.fixtures.stack import until
from tests.platform.conftest import ADMIN, IDLE, TOKEN, Running
from tests.ports import free_port


def table(heading: str, first: str) -> dict[str, str]:
    """Return first and last column of a table of docs/platform.md."""
    page = packaged_files.path("docs/platform.md").read_text()
    section = page[page.index(heading) :]
    rows = section[section.index(f"| {first} |") :].split("\n\n")[0]
    return dict(re.findall(r"^\| `([^`]+)` \|(?:.*\|)? (.*) \|$", rows, re.M))


def test_every_field_and_route_is_documented_and_the_reverse(absent: Running) -> None:
    assert set(table("## The API", "field")) == set(Spec.__dataclass_fields__)
    page = packaged_files.path("docs/platform.md").read_text()
    for name, field in HealthCheck.__dataclass_fields__.items():
        assert (f"`{name}`" if name == "command" else f"`{name}` ({field.default})") in page
    routes = {
        f"{method} {route.path}"
        for route in absent.platform.routes()
        for method in route.methods or ()
        if method != "HEAD"
        # The pages are not part of the API.
        and (not route.path.startswith("/admin") or route.path == "/admin/dashboard")
    }
    assert set(table("## The API", "call")) == routes
    assert f"lines ({TAIL})" in page
    assert BODY_BYTES == 1 << 20


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"TELEMETRY_PLATFORM_VOLUMES": "data"}, "TELEMETRY_PLATFORM_VOLUMES='data'"),
        ({"TELEMETRY_PLATFORM_VOLUMES": "/"}, "TELEMETRY_PLATFORM_VOLUMES='/'"),
        ({"TELEMETRY_PLATFORM_KEYS": "maybe"}, "true or false"),
        ({"TELEMETRY_PLATFORM_RELAY_PORT": "70000"}, "a whole number from 1 to 65535"),
        ({"TELEMETRY_PLATFORM_SAMPLE_INTERVAL": "0"}, "a whole number from 1 to 3600"),
        ({"TELEMETRY_PROXY_URL": "localhost:8080"}, "TELEMETRY_PROXY_URL"),
        ({"TELEMETRY_PLATFORM_MEMORY": "512m"}, "0, or a whole number from 6291456"),
        ({"TELEMETRY_PLATFORM_MEMORY": "1024"}, "0, or a whole number from 6291456"),
        ({"TELEMETRY_PLATFORM_CPUS": "nan"}, "a number from 0 to 1024"),
        ({"TELEMETRY_PLATFORM_CAPABILITIES": "chown"}, "names such as CHOWN SETUID"),
        ({"TELEMETRY_PLATFORM_DAILY_BUDGET": "-1"}, "a number of USD"),
    ],
)
def test_invalid_setting_is_named(tmp_path: Path, environ: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Settings.from_env({"TELEMETRY_HOME": str(tmp_path), **environ})


def test_containers_telemetry_goes_to_an_http_endpoint(tmp_path: Path) -> None:
    def goes(**environ: str) -> str:
        return Settings.from_env({"TELEMETRY_HOME": str(tmp_path), **environ}).otlp_url

    address = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318/"}
    assert goes(**address) == "http://collector:4318"
    grpc = goes(**address, OTEL_EXPORTER_OTLP_PROTOCOL="grpc", TELEMETRY_OTLP_HTTP_PORT="4444")
    assert grpc == "http://127.0.0.1:4444"


def test_repr_of_settings_has_no_secret(tmp_path: Path) -> None:
    settings = Settings.from_env({"TELEMETRY_HOME": str(tmp_path)})
    for secret in (settings.admin_token, settings.otlp_token):
        assert secret not in repr(settings)


# --- the process ------------------------------------------------------------------------------

Run = Callable[..., "Process"]


class Process:
    """``telemetry platform`` in its own process."""

    def __init__(self, home: Path, **environ: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("OTEL_", "TELEM"))}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "telemetry", "platform", "--port", str(self.port)],
            env={
                **inherited,
                "TELEMETRY_HOME": str(home),
                "TELEMETRY_ADMIN_TOKEN": TOKEN,
                "TELEMETRY_PLATFORM_KEYS": "false",
                "TELEMETRY_PLATFORM_RELAY_PORT": str(free_port()),
                "DOCKER_HOST": f"unix://{home}/nobody.sock",
                "OTEL_METRICS_EXPORTER": "none",
                "OTEL_LOGS_EXPORTER": "none",
                **environ,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def answers(self) -> bool:
        assert self.process.poll() is None, self.process.communicate()[0]
        try:
            return bool(httpx.get(f"{self.url}/health").content)
        except httpx.TransportError:
            return False

    def stop(self, signum: int = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signum)
        self.printed = self.process.communicate(timeout=60)[0]
        return self.process.returncode


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Run]:
    started: list[Process] = []

    def start(**environ: str) -> Process:
        started.append(Process(tmp_path / "home", **environ))
        until(started[-1].answers)
        return started[-1]

    yield start
    for each in started:
        each.stop(signal.SIGKILL)


def test_platform_starts_without_docker_and_stops_on_sigterm(process: Run) -> None:
    running = process()
    assert httpx.get(f"{running.url}/health").status_code == 503
    metrics = httpx.get(f"{running.url}/metrics", headers=ADMIN).text
    assert 'platform_containers_total{status="running"} 0' in metrics
    assert running.stop() == 0
    assert running.printed.count("no Docker engine answers") <= 2, "said once, not at every look"


def test_second_platform_on_the_same_state_folder_is_refused(process: Run, tmp_path: Path) -> None:
    process()
    second = Process(tmp_path / "home")
    assert second.stop(signal.SIGCONT) == 75
    assert "a platform runs already" in second.printed
    assert "TELEMETRY_HOME" in second.printed


@pytest.mark.docker
def test_killed_platform_continues_after_a_restart(
    process: Run, empty_docker: DockerEngine
) -> None:
    first = process(DOCKER_HOST=empty_docker.base_url)
    body = {"handle": "ann", "image": IMAGE, "command": IDLE}
    made = httpx.post(f"{first.url}/api/containers", json=body, headers=ADMIN, timeout=60)
    assert made.status_code == 201
    first.stop(signal.SIGKILL)
    second = process(DOCKER_HOST=empty_docker.base_url)

    def metrics() -> str:
        return httpx.get(f"{second.url}/metrics", headers=ADMIN).text

    until(lambda: 'platform_container_up{handle="ann"} 1' in metrics())
    found = httpx.get(f"{second.url}/api/containers/ann", headers=ADMIN).json()
    assert (found["id"], found["wanted"], found["provisioned"]) == (made.json()["id"], True, True)
    assert second.stop() == 0
