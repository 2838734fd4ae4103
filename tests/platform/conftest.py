"""A running platform, with a real proxy and an OTLP receiver."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from telemetry import testing
from telemetry.services.platform.app import Platform, bare_app, guard
from telemetry.services.platform.settings import Settings
from telemetry.services.proxy.app import bare_app as bare_proxy
from telemetry.services.proxy.settings import Settings as ProxySettings
from tests.fixtures.docker import IMAGE, DockerEngine
from tests.fixtures.otlp import Receiver
from tests.fixtures.simulated import served
from tests.ports import free_port

TOKEN = "admin-secret"
ADMIN = {"authorization": f"Bearer {TOKEN}"}
# Ends on SIGTERM; a shell alone would ignore it.
IDLE = ["sh", "-c", "trap exit TERM; while true; do sleep 0.1; done"]


@dataclass
class Running:
    """A platform running in this process.

    Args:
        url: its address.
        platform: its parts.
        proxy_url: the proxy's address.
    """

    url: str
    platform: Platform
    proxy_url: str

    def ask(self, method: str, path: str, body: Any = None, **options: Any) -> httpx.Response:
        """Send a request with the admin token."""
        options.setdefault("headers", ADMIN)
        return httpx.request(method, self.url + path, json=body, timeout=90, **options)

    def provision(self, handle: str, **fields: Any) -> httpx.Response:
        """Request a container; by default it idles."""
        body = {"handle": handle, "image": IMAGE, "command": IDLE, **fields}
        return self.ask("POST", "/api/containers", body)

    def make(self, handle: str, **fields: Any) -> dict[str, Any]:
        """Provision a container and return it."""
        response = self.provision(handle, **fields)
        assert response.status_code == 201, response.text
        made: dict[str, Any] = response.json()
        return made

    def get(self, handle: str) -> dict[str, Any]:
        """Return a container as the API shows it."""
        found: dict[str, Any] = self.ask("GET", f"/api/containers/{handle}").json()
        return found

    def keys(self, handle: str) -> list[dict[str, Any]]:
        """Return the valid keys of a handle at the proxy."""
        listed = httpx.get(f"{self.proxy_url}/api/keys", headers=ADMIN).json()["keys"]
        return [k for k in listed if k["user_id"] == handle and k["revoked_ms"] is None]


Start = Callable[..., Any]


@pytest.fixture
def recorded() -> Iterator[testing.Recorded]:
    """Isolated metrics."""
    with testing.isolated() as recorded:
        yield recorded


@pytest.fixture
def proxy_url(recorded: testing.Recorded, tmp_path: Path, simulated_upstream: str) -> Iterator[str]:
    """A proxy with the same admin token, in front of the simulated model."""
    environ = {
        "TELEMETRY_HOME": str(tmp_path / "proxy"),
        "TELEMETRY_ADMIN_TOKEN": TOKEN,
        "TELEMETRY_ANTHROPIC_URL": simulated_upstream,
        "TELEMETRY_OPENAI_URL": simulated_upstream,
    }
    (tmp_path / "proxy").mkdir()
    with served(bare_proxy(ProxySettings.from_env(environ))) as url:
        yield url


@pytest.fixture
def run_platform(
    recorded: testing.Recorded, proxy_url: str, otlp: Receiver, tmp_path: Path
) -> Start:
    """Run platforms with one state folder, one after the other, with settings by environment
    variable; by default without Docker."""

    @contextmanager
    def run(**environ: str) -> Iterator[Running]:
        settings = Settings.from_env(
            {
                "TELEMETRY_HOME": str(tmp_path / "home"),
                "TELEMETRY_ADMIN_TOKEN": TOKEN,
                "TELEMETRY_PROXY_URL": proxy_url,
                "TELEMETRY_GATEWAY_URL": f"http://127.0.0.1:{free_port()}",
                "OTEL_EXPORTER_OTLP_ENDPOINT": otlp.url,
                "TELEMETRY_PLATFORM_RELAY_PORT": str(free_port()),
                "TELEMETRY_PLATFORM_SAMPLE_INTERVAL": "1",
                "DOCKER_HOST": f"unix://{tmp_path}/nobody.sock",
                **environ,
            }
        )
        app = bare_app(settings)
        with served(guard(app, settings)) as url:
            yield Running(url, app.state.platform, proxy_url)

    return run


@pytest.fixture
def absent(run_platform: Start) -> Iterator[Running]:
    """A platform on a machine without Docker."""
    with run_platform() as running:
        yield running


@pytest.fixture
def platform(run_platform: Start, empty_docker: DockerEngine) -> Iterator[Running]:
    """A platform with an engine that has no container yet."""
    with run_platform(DOCKER_HOST=empty_docker.base_url) as running:
        yield running
