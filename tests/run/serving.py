"""A server that runs during a test, under `telemetry run` or any other command."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.fixtures.otlp import Receiver
from tests.fixtures.stack import until

TELEMETRY = [sys.executable, "-m", "telemetry"]
PYTHON = [*TELEMETRY, "run", "--", sys.executable]
SCRIPTS = Path(sys.executable).parent
RELOADING = "StatReload detected changes"

APP = """
import asyncio, logging, os
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

log = logging.getLogger("shop")

async def item(request):
    log.info("sequence %s", request.path_params["id"])
    return PlainTextResponse(str(os.getpid()))

app = Starlette(routes=[Route("/items/{id}", item)])
"""
# No framework, and no lifespan.
BARE = """
import os

async def app(scope, receive, send):
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(os.getpid()).encode()})
"""


def environment(**more: str) -> dict[str, str]:
    """Create an environment without our and OpenTelemetry's settings, except ``more``."""
    kept = {
        k: v
        for k, v in os.environ.items()
        if not k.startswith(("OTEL_", "TELEMETRY")) and k != "PORT"
    }
    path = f"{SCRIPTS}{os.pathsep}{kept.get('PATH', '')}"
    return {**kept, "PATH": path, "PYTHONUNBUFFERED": "1", **more}


@dataclass
class Served:
    """A running server."""

    base: str
    process: subprocess.Popen[str]
    reader: threading.Thread = field(init=False)
    printed: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.reader = threading.Thread(target=self._read)
        self.reader.start()

    def _read(self) -> None:
        self.printed.extend(self.process.stdout or ())

    def get(self, path: str) -> str:
        """Request a path over a new connection; return the body."""
        with urllib.request.urlopen(self.base + path, timeout=10) as response:
            return str(response.read().decode())

    def try_get(self, path: str) -> str:
        """Request a path; return the code of an HTTP error, and "" if the connection is refused or
        reset, e.g. by a killed worker."""
        try:
            return self.get(path)
        except urllib.error.HTTPError as error:
            error.close()
            return f"{error.code}"
        except OSError:
            return ""

    def counted(self, route: str = "/items/{id}") -> int:
        """Read the requests of all workers to a route ("" for none) from any worker's
        `/metrics`."""
        shown = until(lambda: self.try_get("/metrics"))
        found = re.findall(
            r"^http_server_request_duration_seconds_count\{(.*)\} (\d+)", shown, re.MULTILINE
        )
        return sum(
            int(count)
            for labels, count in found
            if (f'http_route="{route}"' in labels if route else "http_route=" not in labels)
        )

    def wait_counted(self, wanted: int, route: str = "/items/{id}") -> None:
        """Wait until exactly so many requests are counted.

        A worker counts a request after the client has the response. Before that, it may be killed,
        or another worker may serve `/metrics`.
        """
        found = until(lambda: (n := self.counted(route)) >= wanted and n, what=f"{wanted} counted")
        assert found == wanted

    def output(self) -> str:
        return "".join(self.printed)

    def change(self, file: Path, text: str) -> None:
        """Change a file that uvicorn's reloader watches, and wait until it has noticed.

        The reloader ignores changes before its first look, and does not log when that is. So the
        file's modification time is changed until it notices.
        """
        before = self.output().count(RELOADING)
        file.write_text(text)
        until(
            lambda: self.output().count(RELOADING) > before or os.utime(file),
            what="uvicorn notices the change",
        )

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal, wait until the server exits and its output is read; return the code."""
        self.process.send_signal(number)
        code = self.process.wait(30)
        self.reader.join(10)
        return code


@contextmanager
def served(
    command: Sequence[str], folder: Path, env: dict[str, str], port: int, ready: str = "/nothing"
) -> Iterator[Served]:
    """Run ``command`` until the block ends, and wait until the path ``ready`` responds."""
    process = subprocess.Popen(
        command, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    server = Served(f"http://127.0.0.1:{port}", process)
    assert process.stdout is not None
    try:
        try:
            until(lambda: server.try_get(ready) or process.poll() is not None)
        except AssertionError:
            raise AssertionError(f"no response:\n{server.output()}") from None
        assert process.poll() is None, server.output()
        yield server
    finally:
        if process.poll() is None:
            process.terminate()
        try:
            process.wait(30)
        finally:
            process.kill()
        server.reader.join(10)
        process.stdout.close()


def run(folder: Path, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run `telemetry run` with arguments until it exits by itself."""
    silent = {"OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none"}
    return run_to_end([*TELEMETRY, "run", *args], folder, **silent | env)


def run_to_end(command: list[str], folder: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a command until it exits by itself; it must leave no run folder."""
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment(**{"TMPDIR": str(folder), **env}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert not list(folder.glob("telemetry-run-*")), "nothing is left behind"
    return done


def error_lines(done: subprocess.CompletedProcess[str]) -> list[str]:
    """Find our own lines: the error and its remedy."""
    lines = done.stderr.splitlines()
    return [line for line in lines if line.startswith(("error: ", "  -> "))]


def exported(otlp: Receiver, route: str = "/items/{id}") -> int:
    """Count the exported requests to a route: the sum of each process's last value."""
    last: dict[str, int] = {}
    for request in tuple(otlp.metrics):
        for resource in request.resource_metrics:
            of = {a.key: a.value.string_value for a in resource.resource.attributes}
            found = [
                point.count
                for scope in resource.scope_metrics
                for metric in scope.metrics
                if metric.name == "http.server.request.duration"
                for point in metric.histogram.data_points
                if {a.key: a.value.string_value for a in point.attributes}.get("http.route", "")
                == route
            ]
            if found:
                instance = of["service.instance.id"]
                last[instance] = max(last.get(instance, 0), *found)
    return sum(last.values())
