"""A gateway, a proxy and the simulated model, all running in this process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from websockets.sync.client import ClientConnection, connect

from telemetry import testing
from telemetry.services.gateway.app import create_app
from telemetry.services.gateway.settings import Settings
from telemetry.services.proxy.app import create_app as proxy_app
from telemetry.services.proxy.settings import Settings as ProxySettings
from tests.fixtures.simulated import served
from tests.fixtures.stack import until
from tests.ports import free_port
from tests.proxy.conftest import Running

if TYPE_CHECKING:
    from playwright.sync_api import Page

TOKEN = {"authorization": "Bearer gateway-secret"}
HOOK = {"authorization": "Bearer webhook-secret"}
ADMIN = {"authorization": "Bearer admin-secret"}
SECRETS = {
    "TELEMETRY_GATEWAY_TOKEN": "gateway-secret",
    "TELEMETRY_WEBHOOK_TOKEN": "webhook-secret",
    "TELEMETRY_ADMIN_TOKEN": "admin-secret",
}
MODEL = "claude-sonnet-4-6"
Event = dict[str, Any]


def events(response: httpx.Response) -> Iterator[Event]:
    """Yield the server-sent events of a response."""
    name = ""
    for line in response.iter_lines():
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            event = json.loads(line.removeprefix("data: "))
            assert event["type"] == name
            yield event


@dataclass
class Gateway:
    """A running gateway."""

    url: str
    home: Path

    def ask(self, message: str, session: str | None = None) -> list[Event]:
        """Ask a question and return all events of the answer."""
        body = {"message": message} | ({"sessionId": session} if session else {})
        with httpx.stream(
            "POST", f"{self.url}/api/chat", json=body, headers=TOKEN, timeout=60
        ) as r:
            assert r.status_code == 200, r.read()
            return list(events(r))

    def post(self, path: str, body: Any, **headers: str) -> httpx.Response:
        """Send a request with the gateway's token; ``body`` is sent as JSON, bytes unchanged."""
        content = {"content": body} if isinstance(body, bytes) else {"json": body}
        return httpx.post(f"{self.url}{path}", headers=TOKEN | headers, timeout=60, **content)

    def get(self, path: str) -> httpx.Response:
        return httpx.get(f"{self.url}{path}", headers=TOKEN, timeout=30)

    def metrics(self) -> str:
        return httpx.get(f"{self.url}/metrics", headers=ADMIN, timeout=30).text

    def shell(self, session: str = "s1", **headers: str) -> ClientConnection:
        """Connect to the shell's WebSocket with the token."""
        url = f"{self.url.replace('http', 'ws')}/ws?session={session}"
        return connect(url, additional_headers=TOKEN | headers)

    def lines(self) -> list[dict[str, Any]]:
        """Return the interaction log of all days."""
        files = sorted((self.home / "logs").glob("*.jsonl"))
        return [json.loads(line) for path in files for line in path.read_text().splitlines()]

    def wait_lines(self, n: int = 1) -> list[dict[str, Any]]:
        """Wait until the interaction log has ``n`` lines, and return it."""
        until(lambda: len(self.lines()) >= n, 20)
        return self.lines()


class Process:
    """``telemetry gateway`` or ``proxy`` in its own process."""

    def __init__(self, service: str, home: Path, port: int, **environ: str) -> None:
        self.port = port or free_port()
        self.gateway = Gateway(f"http://127.0.0.1:{self.port}", home)
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("OTEL_", "TELEM"))}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "telemetry", service, "--port", str(self.port)],
            env={
                **inherited,
                **SECRETS,
                "TELEMETRY_HOME": str(home),
                "OTEL_METRICS_EXPORTER": "none",
                "OTEL_LOGS_EXPORTER": "none",
                "PYTHONPATH": str(Path(__file__).parents[2]),
                **environ,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def healthy(self) -> bool:
        if self.process.poll() is not None:
            raise AssertionError(f"it ended: {self.process.communicate()[0]}")
        try:
            return self.gateway.get("/health").status_code == 200
        except httpx.TransportError:
            return False

    def stop(self, number: int = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
            self.process.communicate(timeout=60)
        return self.process.returncode


def is_called(proxy: Running) -> bool:
    """Tell whether the proxy has started a call."""
    with proxy.proxy.ledger.engine.connect() as connection:
        return bool(connection.exec_driver_sql("SELECT count(*) FROM calls").scalar())


def text_of(received: list[Event]) -> str:
    """Join the deltas of an answer."""
    return "".join(event["text"] for event in received if event["type"] == "delta")


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> Iterator[testing.Recorded]:
    """Isolated metrics, not exported."""
    for kind in ("METRICS", "LOGS"):
        monkeypatch.setenv(f"OTEL_{kind}_EXPORTER", "none")
    with testing.isolated() as recorded:
        yield recorded


@pytest.fixture
def parts(recorded: testing.Recorded) -> Iterator[ExitStack]:
    """Started parts, stopped before the metrics' isolation ends."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def start_proxy(
    simulated_upstream: str, tmp_path: Path, parts: ExitStack
) -> Callable[..., Running]:
    """Start a proxy with settings by environment variable."""

    def start(**environ: str) -> Running:
        settings = ProxySettings.from_env(
            {
                "TELEMETRY_HOME": str(tmp_path / "proxy"),
                "TELEMETRY_LEDGER_URL": f"sqlite:///{tmp_path}/ledger.db",
                "TELEMETRY_ANTHROPIC_URL": simulated_upstream,
                "TELEMETRY_OPENAI_URL": simulated_upstream,
                **SECRETS,
                **environ,
            }
        )
        app: Any = proxy_app(settings)
        return Running(parts.enter_context(served(app)), app.state.proxy, parts)

    return start


@pytest.fixture
def proxy(start_proxy: Callable[..., Running]) -> Running:
    """A proxy with default settings."""
    return start_proxy()


@pytest.fixture
def start_gateway(tmp_path: Path, parts: ExitStack) -> Callable[..., Gateway]:
    """Start a gateway with settings by environment variable."""

    def start(proxy_url: str = "http://127.0.0.1:1", **environ: str) -> Gateway:
        settings = Settings.from_env(
            {
                "TELEMETRY_HOME": str(tmp_path / "home"),
                "TELEMETRY_PROXY_URL": proxy_url,
                # Not running, unless a test starts them.
                "TELEMETRY_PROMETHEUS_URL": "http://127.0.0.1:1",
                "TELEMETRY_LOKI_URL": "http://127.0.0.1:1",
                "TELEMETRY_MODEL": MODEL,
                **SECRETS,
                **environ,
            }
        )
        return Gateway(parts.enter_context(served(create_app(settings))), settings.home)

    return start


@pytest.fixture
def gateway(proxy: Running, start_gateway: Callable[..., Gateway]) -> Gateway:
    """A gateway with default settings, in front of the proxy."""
    return start_gateway(proxy.url)


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Start services as processes and wait until they are healthy."""
    begun: list[Process] = []

    def start(service: str, port: int = 0, **environ: str) -> Process:
        begun.append(Process(service, tmp_path / "home", port, **environ))
        until(begun[-1].healthy, 60)
        return begun[-1]

    yield start
    for process in begun:
        process.stop(signal.SIGKILL)


@pytest.fixture
def start_process(processes: Callable[..., Process]) -> Callable[..., Process]:
    """Start gateways as processes."""

    def start(proxy_url: str, port: int = 0, **environ: str) -> Process:
        return processes("gateway", port, TELEMETRY_PROXY_URL=proxy_url, **environ)

    return start


@pytest.fixture
def enter(page: Page, complaints: list[str]) -> Callable[[Gateway], Page]:
    """Log in."""

    from playwright.sync_api import expect

    def log_in(gateway: Gateway) -> Page:
        page.goto(gateway.url)
        page.get_by_label("Token").fill("gateway-secret")
        page.get_by_role("button", name="Log in").click()
        expect(page.locator("#state")).to_have_text("connected")
        return page

    return log_in
