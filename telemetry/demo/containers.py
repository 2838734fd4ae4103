"""Containers that live, die and run out of memory; where a Docker engine answers."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

from telemetry.errors import TelemetryError
from telemetry.system.docker_engine import Engine

IMAGE = "busybox:stable"


class Containers:
    """The platform's API with its admin token.

    Args:
        platform: the platform's address.
        environ: with the token; TELEMETRY_DEMO_IMAGE names another image with a shell.
    """

    def __init__(self, platform: str, environ: Mapping[str, str]) -> None:
        self._base = f"{platform}/api/containers"
        self._headers = {"authorization": f"Bearer {environ['TELEMETRY_ADMIN_TOKEN']}"}
        self._image = environ.get("TELEMETRY_DEMO_IMAGE", IMAGE)
        self._engine = Engine(environ)

    def unavailable(self) -> str:
        """Why there can be no containers here, "" where there can."""
        import docker

        try:
            with self._engine.asked() as client:
                try:
                    client.images.get(self._image)
                except docker.errors.ImageNotFound:
                    client.images.pull(self._image)
        except (TelemetryError, docker.errors.APIError) as error:
            return str(error).splitlines()[0]
        return ""

    def live_and_die(self) -> str:
        """One lives, one is killed behind the platform's back, one runs out of memory.

        Returns:
            What went wrong, "" where all went as meant.
        """
        script = "while true; do echo working; sleep 1; done"
        # A shell variable that doubles until the limit: no program but the shell is needed.
        greedy = "sleep 2; x=0123456789; while true; do x=$x$x; done"
        for handle, command, memory in (
            ("demo-1", script, 64),
            ("demo-2", script, 64),
            ("demo-3", greedy, 24),
        ):
            self._call("DELETE", f"/{handle}")
            status, answer = self._call(
                "POST", "",
                {"handle": handle, "image": self._image, "command": ["sh", "-c", command],
                 "memory_limit_bytes": memory << 20},
            )  # fmt: skip
            if status not in (200, 201):
                return f"{handle} was not provisioned: {answer}"
        time.sleep(1)
        return self._kill("demo-2")

    def _kill(self, handle: str) -> str:
        with self._engine.asked() as client:
            for container in client.containers.list(filters={"label": f"handle={handle}"}):
                container.kill()
                return ""
        return f"{handle} is not running"

    def _call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        request = urllib.request.Request(
            self._base + path,
            None if body is None else json.dumps(body).encode(),
            {"content-type": "application/json", **self._headers},
            method=method,
        )
        try:
            with urllib.request.urlopen(request, timeout=120) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()[:300]
