"""Checks of ports and of running processes."""

from __future__ import annotations

import http.server
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from telemetry.errors import ConfigError, TelemetryError
from telemetry.settings import stack as stack_settings
from telemetry.settings.stack import StackSettings
from telemetry.stack import processes as stack_processes
from telemetry.stack import readiness
from telemetry.stack.processes import Process
from telemetry.stack.state_folder import StateFolder
from tests.ports import free_port, free_ports

NO_TLS = Path("/none")


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that this process listens on."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield listening.getsockname()[1]


@pytest.fixture
def web() -> Iterator[str]:
    """A server that returns 200 at /ready and /noted, and 503 with a problem elsewhere."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path in ("/ready", "/noted") else 503)
            self.end_headers()
            part = b'"note": "no Docker"' if self.path == "/noted" else b'"docker": "no socket"'
            self.wfile.write(b'{"status": "degraded", %s}' % part)

        def log_message(self, *args: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def process(*ports: int, name: str = "loki", tier: int = 2, url: str = "") -> Process:
    return Process(name, ("true",), url, ports, tier=tier)


def test_free_ports_are_accepted() -> None:
    ports = free_ports()
    readiness.check_ports([process(*ports.values())], StackSettings.from_env({}))


def test_taken_port_is_reported_with_its_process(taken: int) -> None:
    environ = {"TELEMETRY_LOKI_PORT": str(taken)}
    with pytest.raises(TelemetryError) as caught:
        readiness.check_ports([process(taken)], StackSettings.from_env(environ))
    error = caught.value
    assert error.message.startswith(f"port {taken}, which loki needs, is taken by process ")
    assert str(os.getpid()) in error.message
    assert error.remedy == "stop that process, or set TELEMETRY_LOKI_PORT to another port"
    assert error.exit_code == 75


def test_port_taken_on_all_addresses_is_refused() -> None:
    with socket.socket() as listening:
        listening.bind(("0.0.0.0", 0))
        listening.listen()
        with pytest.raises(TelemetryError, match="is taken"):
            readiness.check_ports([process(listening.getsockname()[1])], StackSettings.from_env({}))


def test_port_used_twice_is_refused() -> None:
    port = free_port()
    environ = {"TELEMETRY_LOKI_PORT": str(port), "TELEMETRY_PROMETHEUS_PORT": str(port)}
    with pytest.raises(TelemetryError) as caught:
        readiness.check_ports(
            [process(port), process(port, name="prometheus")], StackSettings.from_env(environ)
        )
    assert caught.value.message == (
        f"TELEMETRY_PROMETHEUS_PORT and TELEMETRY_LOKI_PORT are both {port}"
    )


@pytest.mark.parametrize("value", ["ten", "0", "65536", "80.5"])
def test_invalid_port_is_refused(value: str) -> None:
    with pytest.raises(ConfigError) as caught:
        readiness.check_ports([], StackSettings.from_env({"TELEMETRY_LOKI_PORT": value}))
    assert caught.value.message == (
        f"TELEMETRY_LOKI_PORT='{value}' is not a whole number from 1 to 65535"
    )
    assert caught.value.exit_code == 78


@pytest.mark.parametrize("address", ["172.17.0.1", ":4318", "127.0.0.1:http", "127.0.0.1:0"])
def test_bridge_address_without_host_or_port_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match="is not an address with a port"):
        readiness.check_ports(
            [], StackSettings.from_env({"TELEMETRY_OTLP_BRIDGE_ADDRESS": address})
        )


def test_bridge_address_of_another_machine_is_refused() -> None:
    # No machine has an address of TEST-NET-1 (RFC 5737).
    with pytest.raises(TelemetryError, match="can't listen on TELEMETRY_OTLP_BRIDGE_ADDRESS="):
        readiness.check_ports(
            [], StackSettings.from_env({"TELEMETRY_OTLP_BRIDGE_ADDRESS": "192.0.2.7:4318"})
        )


def test_condition_is_ready_problem_or_empty(web: str) -> None:
    """The cases: ready, up with a problem, and nothing listens."""
    closed = f"http://127.0.0.1:{free_port()}"
    assert readiness.condition(f"{web}/ready", NO_TLS) == "ready"
    assert (
        readiness.condition(f"{web}/health", NO_TLS)
        == '{"status": "degraded", "docker": "no socket"}'
    )
    assert readiness.condition(closed, NO_TLS) == ""
    assert readiness.note(f"{web}/noted") == "no Docker"
    assert [readiness.note(url) for url in (f"{web}/ready", f"{web}/health", closed)] == [""] * 3


def test_engine_has_started_if_ready_and_service_if_it_answers(web: str) -> None:
    """A platform without Docker is up and reports the problem."""
    assert readiness.started(process(url=f"{web}/ready"), NO_TLS)
    assert not readiness.started(process(url=f"{web}/health"), NO_TLS)
    assert readiness.started(process(url=f"{web}/health", tier=0), NO_TLS)


def test_every_port_is_on_loopback_and_checked(tmp_path: Path) -> None:
    """Each port in the table belongs to a process, and none listens elsewhere."""
    environ = {"TELEMETRY_GRAFANA_PASSWORD": "x", "TELEMETRY_WEBHOOK_TOKEN": "y"}
    place = StateFolder(tmp_path)
    programs = {name: Path(name) for name in ("collector", "prometheus", "loki", "alertmanager")}
    everything = [
        *stack_processes.engines(place, StackSettings.from_env(environ), programs, "prometheus"),
        *stack_processes.engines(
            place,
            StackSettings.from_env(environ),
            programs | {"grafana": Path("grafana")},
            "grafana",
        ),
        *stack_processes.services(place, StackSettings.from_env(environ)),
    ]
    claimed = {port for process in everything for port in process.ports}
    assert claimed == set(stack_settings.PORTS.values())
    for started in everything:
        text = " ".join((*started.argv, *started.env.values()))
        assert "0.0.0.0" not in text
        assert urlsplit(started.ready).hostname == "127.0.0.1"
