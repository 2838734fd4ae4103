"""The Docker engine, which may be absent, and may come and go."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from typing import Any

from telemetry.errors import TelemetryError

TIMEOUT_S = 60.0
PING_TIMEOUT_S = 3.0  # of who only asks whether it is there: pages and probes wait for that
# Kept open at most: the sampler asks so much at once where it can't read the kernel's files.
CONNECTIONS = 32
SOCKET = "/var/run/docker.sock"


class EngineAbsent(TelemetryError):
    """No Docker engine answers."""


class Engine:
    """Connects when it is first needed and again after the engine was lost. Blocks: threads only.

    Args:
        docker_env: DOCKER_HOST and its companions, as the docker command reads them.
    """

    def __init__(self, docker_env: Mapping[str, str]) -> None:
        self._docker_env = dict(docker_env)
        self._lock = threading.Lock()
        self._client: Any = None

    @property
    def address(self) -> str:
        """Where the engine is looked for."""
        return self._docker_env.get("DOCKER_HOST") or f"unix://{SOCKET}"

    @property
    def is_expected(self) -> bool:
        """Whether this machine has Docker, as far as one sees from outside: DOCKER_HOST names an
        engine, or the usual socket exists."""
        return bool(self._docker_env.get("DOCKER_HOST")) or os.path.exists(SOCKET)

    def client(self) -> Any:
        """A `docker.DockerClient`.

        Raises:
            EngineAbsent: no engine answers, or it can't be talked to.
        """
        import docker

        self._knock(TIMEOUT_S)
        with self._lock:
            if self._client is None:
                try:
                    # Asks the engine for its version: newer ones refuse old versions of the API.
                    self._client = docker.from_env(
                        environment=self._docker_env, timeout=TIMEOUT_S, max_pool_size=CONNECTIONS
                    )
                except docker.errors.DockerException as error:
                    raise self.absent(error) from error
            return self._client

    def _knock(self, timeout_s: float) -> None:
        """See that somebody listens at a local socket, as docker's SDK would, which leaves its
        own socket open where nobody does."""
        scheme, _, path = self.address.partition("://")
        if scheme != "unix":
            return
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(timeout_s)
            try:
                probe.connect(path)
            except OSError as error:
                raise self.absent(error) from error

    def absent(self, error: BaseException) -> EngineAbsent:
        """What to raise where ``error`` says that the engine is not there."""
        return EngineAbsent(
            f"no Docker engine answers at {self.address}: {error}",
            remedy="start Docker, or set DOCKER_HOST to where it is",
            exit_code=69,  # EX_UNAVAILABLE
        )

    @contextmanager
    def asked(self) -> Iterator[Any]:
        """A `docker.DockerClient` to ask; Docker's own refusals (`APIError`) are let through.

        Raises:
            EngineAbsent: no engine answers, or it went away meanwhile.
        """
        import docker
        import requests
        import urllib3

        try:
            yield self.client()
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            # Docker's own answers are RequestExceptions, too.
            if isinstance(error, docker.errors.APIError):
                raise
            raise self.absent(error) from error

    def problem(self) -> str:
        """Why there is no engine now, "" where one answers; known within seconds, by a connection
        of its own: the others may be waiting for an engine that accepts and doesn't answer."""
        import docker
        import requests
        import urllib3

        version = docker.constants.DEFAULT_DOCKER_API_VERSION  # given, so that it isn't asked for
        try:
            self._knock(PING_TIMEOUT_S)
            with closing(docker.from_env(environment=self._docker_env, version=version)) as client:
                url = f"{client.api.base_url}/_ping"
                client.api.get(url, timeout=PING_TIMEOUT_S).raise_for_status()
        except EngineAbsent as error:
            return error.message
        except (
            docker.errors.DockerException,
            requests.RequestException,
            urllib3.exceptions.HTTPError,
        ) as error:
            return self.absent(error).message
        return ""

    def close(self) -> None:
        """Let go of the connections."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()


def cut(stream: Any) -> None:
    """End a stream of Docker's; whoever reads it finds its end.

    Args:
        stream: a ``docker.types.CancellableStream``, ended already or not.
    """
    # Of one that has ended, the SDK looks for the socket where there is none any more.
    with suppress(AttributeError, OSError):
        stream.close()
