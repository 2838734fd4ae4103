"""Run containers that keep running, are killed or run out of memory; needs Docker."""

from __future__ import annotations

import time

from telemetry.errors import TelemetryError
from telemetry.settings.stack import StackSettings
from telemetry.system import json_http
from telemetry.system.docker_engine import Engine

NO_DOCKER = "no Docker here: the demo runs without containers; start Docker, or set DOCKER_HOST"
CALL_S = 120.0  # the platform may have to stop a container first


class Containers:
    """The demo's containers, managed through the platform's API.

    Args:
        settings: the platform's address, its admin token, and an image with a shell.
    """

    def __init__(self, settings: StackSettings) -> None:
        self._base = f"{settings.urls['platform']}/api/containers"
        self._headers = {"authorization": f"Bearer {settings.admin_token}"}
        self._image = settings.demo_image
        self._engine = Engine(settings.child_env)

    def unavailable(self) -> str:
        """Return why the demo can't run containers on this machine; "" if it can."""
        import docker

        if not self._engine.is_expected:
            return NO_DOCKER
        try:
            with self._engine.connect() as client:
                try:
                    client.images.get(self._image)
                except docker.errors.ImageNotFound:
                    client.images.pull(self._image)
        except (TelemetryError, docker.errors.APIError) as error:
            return f"no containers: {str(error).splitlines()[0]}"
        return ""

    def run_all(self) -> str:
        """Start three containers: one keeps running, one is killed, one runs out of memory.

        The second is killed directly in Docker, without the platform.

        Returns:
            The error, "" if there was none.
        """
        script = "while true; do echo working; sleep 1; done"
        # A shell variable doubles up to the limit, so the image needs only a shell.
        greedy = "sleep 2; x=0123456789; while true; do x=$x$x; done"
        for handle, command, memory in (
            ("demo-1", script, 64),
            ("demo-2", script, 64),
            ("demo-3", greedy, 24),
        ):
            json_http.send(
                f"{self._base}/{handle}", method="DELETE", headers=self._headers, timeout_s=CALL_S
            )
            wanted = {
                "handle": handle,
                "image": self._image,
                "command": ["sh", "-c", command],
                "memory_limit_bytes": memory << 20,
            }
            answer = json_http.send(self._base, wanted, headers=self._headers, timeout_s=CALL_S)
            if answer.status not in (200, 201):
                return f"{handle} was not provisioned: {answer.text}"
        time.sleep(1)
        return self._kill("demo-2")

    def _kill(self, handle: str) -> str:
        with self._engine.connect() as client:
            for container in client.containers.list(filters={"label": f"handle={handle}"}):
                container.kill()
                return ""
        return f"{handle} is not running"
