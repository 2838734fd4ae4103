"""A collector on another host that sends to the stack's collector with the token."""

from __future__ import annotations

import json
import os
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from telemetry.settings import credentials
from telemetry.settings.stack import StackSettings
from telemetry.stack import readiness
from telemetry.stack.engines import engine as engines
from telemetry.stack.engines import ensure
from telemetry.system import json_http, packaged_files
from tests.fixtures.stack import Stack, until
from tests.ports import free_port, free_ports

pytestmark = pytest.mark.stack

# On Linux all addresses of 127/8 are this machine's; this one is not the usual one.
ADDRESS = "127.0.0.2"


def _log(body: str) -> dict[str, Any]:
    record = {"timeUnixNano": str(time.time_ns()), "body": {"stringValue": body}}
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "far"}}]}
    return {"resourceLogs": [{"resource": resource, "scopeLogs": [{"logRecords": [record]}]}]}


def _post(url: str, body: Any, token: str) -> int:
    headers = {"content-type": "application/json", "authorization": f"Bearer {token}"}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=5) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


@contextmanager
def agent(home: Path, upstream: str, token: str) -> Iterator[dict[str, int]]:
    """Run a collector as on another host, and give its ports."""
    ports = free_ports(("otlp_grpc", "otlp_http", "collector_metrics", "collector_health"))
    program = ensure.ensure(engines.table()["collector"], StackSettings.from_env(os.environ))
    configs = [
        f"--config={packaged_files.path(f'collector/{name}.yaml')}" for name in ("config", "agent")
    ]
    environ = {
        **{f"TELEMETRY_{name.upper()}_PORT": str(port) for name, port in ports.items()},
        "PATH": os.environ["PATH"],
        "HOSTNAME": "far-host",
        "TELEMETRY_HOME": str(home),
        "TELEMETRY_COLLECTOR_DATA": str(home),
        "TELEMETRY_OTLP_TOKEN": token,
        "TELEMETRY_UPSTREAM": upstream,
        "TELEMETRY_DOCKER_CONTAINERS": str(home / "none"),
    }
    with open(home / "output", "w") as output:
        process = subprocess.Popen([program, *configs], env=environ, stdout=output, stderr=output)
    try:
        health = f"http://127.0.0.1:{ports['collector_health']}/"
        until(lambda: readiness.condition(health, home) == "ready")
        yield ports
    finally:
        process.terminate()
        process.wait(30)


def test_collector_of_another_host_delivers_with_token(new_stack: Stack, tmp_path: Path) -> None:
    stack = new_stack
    port = free_port(ADDRESS)
    stack.run("up", "--no-services", TELEMETRY_OTLP_BRIDGE_ADDRESS=f"{ADDRESS}:{port}")
    upstream = f"http://{ADDRESS}:{port}"
    token = credentials.ensure(stack.home, {})["TELEMETRY_OTLP_TOKEN"]
    assert _post(f"{upstream}/v1/logs", _log("with a guessed token"), "guessed") == 401
    assert _post(f"{upstream}/v1/logs", _log("straight"), token) == 200

    (tmp_path / "far").mkdir()
    with agent(tmp_path / "far", upstream, token) as ports:
        json_http.post_json(
            f"http://127.0.0.1:{ports['otlp_http']}/v1/logs", _log("through an agent")
        )
        stack.wait_logs('{service_name="far"} |= "through an agent"', lambda found: len(found) == 1)
        stack.wait_query('system_memory_utilization_ratio{instance="far-host"}')
    found = stack.wait_logs('{service_name="far"}', lambda found: len(found) >= 2)
    assert [entry["line"] for entry in found] == ["straight", "through an agent"]
