"""Run by `nox -s build` with the installed wheel, in an empty folder, far from the checkout.

wheel.py base    with the base install: an app is instrumented, and little came along
wheel.py stack   with the extra: the stack starts, takes a signal, and stops
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import runpy
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path
from typing import Any

import telemetry
from telemetry.system import packaged_files


def free_ports() -> dict[str, str]:
    """A free port for each of the stack's, as its variables; by path, since `tests` is no package
    where this runs."""
    ports = runpy.run_path(str(Path(__file__).parent / "ports.py"))
    found = ports["free_ports"]()
    return {f"TELEMETRY_{name.upper()}_PORT": str(port) for name, port in found.items()}


def base() -> None:
    """OpenTelemetry and Prometheus packages only; a command that needs more says what."""
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
    """From `up` to `down`, with the configurations that travel in the wheel."""
    package = Path(telemetry.__file__).parent
    assert "site-packages" in str(package), f"not the installed wheel: {package}"
    assert packaged_files.path("collector/config.yaml").is_relative_to(package)
    with tempfile.TemporaryDirectory() as home:
        env = os.environ | free_ports() | {"TELEMETRY_HOME": home, "TELEMETRY_GRAFANA": "off"}
        command = [sys.executable, "-m", "telemetry"]
        subprocess.run([*command, "up"], env=env, check=True)
        try:
            port = env["TELEMETRY_PROMETHEUS_PORT"]
            query = f"http://127.0.0.1:{port}/api/v1/query?query=up"
            with urllib.request.urlopen(query, timeout=10) as response:
                answer = json.load(response)
            jobs = sorted(r["metric"]["job"] for r in answer["data"]["result"])
            print("Prometheus scrapes:", ", ".join(jobs))
            assert answer["status"] == "success"
            # 1 where Docker is missing: the platform says so.
            assert subprocess.run([*command, "status"], env=env, check=False).returncode in (0, 1)
        finally:
            subprocess.run([*command, "down"], env=env, check=True)
    print("the wheel works by itself")


if __name__ == "__main__":
    {"base": base, "stack": stack}[sys.argv[1]]()
