"""Run by `nox -s build` with the installed wheel, in an empty folder, far from the checkout:
the stack starts, takes a signal, and stops."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

import telemetry
from telemetry import config, files


def free_ports() -> dict[str, str]:
    sockets = []
    found = {}
    for name in config.PORTS:
        sock = socket.socket()
        sock.bind(("127.0.0.1", 0))
        sockets.append(sock)
        found[f"TELEMETRY_{name.upper()}_PORT"] = str(sock.getsockname()[1])
    for sock in sockets:
        sock.close()
    return found


def main() -> None:
    package = Path(telemetry.__file__).parent
    assert "site-packages" in str(package), f"not the installed wheel: {package}"
    assert files.path("collector/config.yaml").is_relative_to(package)
    with tempfile.TemporaryDirectory() as home:
        env = os.environ | free_ports() | {"TELEMETRY_HOME": home}
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
            subprocess.run([*command, "status"], env=env, check=True)
        finally:
            subprocess.run([*command, "down"], env=env, check=True)
    print("the wheel works by itself")


if __name__ == "__main__":
    main()
