"""Test the installed wheel; `nox -s build` runs this in an empty folder outside the checkout.

wheel.py base    base install: instrument an app; there are few dependencies
wheel.py stack   with the extra: start the stack, scrape a metric, stop the stack
"""

from __future__ import annotations

import importlib.metadata
import os
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import telemetry
from telemetry.system import json_http, packaged_files


def free_ports() -> dict[str, str]:
    """Return free ports for the stack, as environment variables.

    This runs ports.py by its path: there is no package `tests` outside the checkout.
    """
    ports = runpy.run_path(str(Path(__file__).parent / "ports.py"))
    found = ports["free_ports"]()
    return {f"TELEMETRY_{name.upper()}_PORT": str(port) for name, port in found.items()}


def base() -> None:
    """Check that the base install needs only OpenTelemetry and Prometheus packages, instruments an
    app, and names the extra that a command needs."""
    needs = importlib.metadata.requires("container-telemetry") or []
    base_needs = [need for need in needs if "extra ==" not in need]
    assert base_needs
    assert all(need.startswith(("opentelemetry-", "prometheus")) for need in base_needs), base_needs

    async def app(scope: Any, receive: Any, send: Any) -> None: ...

    assert callable(telemetry.instrument(app))
    command = [sys.executable, "-m", "telemetry"]
    subprocess.run([*command, "--help"], check=True, stdout=subprocess.DEVNULL)
    up = subprocess.run([*command, "up"], capture_output=True, text=True, check=False)
    assert up.returncode == 69, up.stderr
    assert 'pip install "container-telemetry[stack]"' in up.stderr, up.stderr
    print("the base install is enough to instrument an app")


def stack() -> None:
    """Run the stack from `up` to `down`, with the configuration files of the wheel."""
    package = Path(telemetry.__file__).parent
    assert "site-packages" in str(package), f"not the installed wheel: {package}"
    assert packaged_files.path("collector/config.yaml").is_relative_to(package)
    with tempfile.TemporaryDirectory() as home:
        env = os.environ | free_ports() | {"TELEMETRY_HOME": home, "TELEMETRY_GRAFANA": "off"}
        command = [sys.executable, "-m", "telemetry"]
        subprocess.run([*command, "up"], env=env, check=True)
        try:
            port = env["TELEMETRY_PROMETHEUS_PORT"]
            query = f"https://127.0.0.1:{port}/api/v1/query?query=up"
            answer = json_http.get_json(query, 10, tls=Path(home) / "tls")
            jobs = sorted(r["metric"]["job"] for r in answer["data"]["result"])
            print("Prometheus scrapes:", ", ".join(jobs))
            assert answer["status"] == "success"
            # 1 if Docker is missing: the platform is then unhealthy.
            assert subprocess.run([*command, "status"], env=env, check=False).returncode in (0, 1)
        finally:
            subprocess.run([*command, "down"], env=env, check=True)
    print("the wheel works by itself")


if __name__ == "__main__":
    {"base": base, "stack": stack}[sys.argv[1]]()
