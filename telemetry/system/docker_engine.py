"""Connection to the Docker engine, which may be absent or restart at any time."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from typing import Any

from telemetry.errors import TelemetryError

TIMEOUT_S = 60.0
PING_TIMEOUT_S = 3.0  # for availability checks, which pages and probes wait for
# Size of the connection pool. The sampler sends as many requests in parallel if it can't read the
# kernel's files.
CONNECTIONS = 32
SOCKET = "/var/run/docker.sock"


class EngineAbsent(TelemetryError):
    """No Docker engine answers."""


class Engine:
    """A Docker engine: connects on first use, and reconnects after the engine was lost.

    Its methods block, so call them from threads only.

    Args:
        docker_env: DOCKER_HOST and the other variables that the docker command reads.
    """

    def __init__(self, docker_env: Mapping[str, str]) -> None:
        self._docker_env = dict(docker_env)
        self._lock = threading.Lock()
        self._client: Any = None

    @property
    def address(self) -> str:
        """The engine's address."""
        return self._docker_env.get("DOCKER_HOST") or f"unix://{SOCKET}"

    @property
    def is_expected(self) -> bool:
        """True if this machine seems to have Docker: DOCKER_HOST is set, or the default socket
        exists."""
        return bool(self._docker_env.get("DOCKER_HOST")) or os.path.exists(SOCKET)

    def client(self) -> Any:
        """Return a `docker.DockerClient`, connected if necessary.

        Raises:
            EngineAbsent: no engine answers, or the connection fails.
        """
        import docker

        self._check_socket(TIMEOUT_S)
        with self._lock:
            if self._client is None:
                try:
                    # This negotiates the API version: newer engines refuse old versions.
                    self._client = docker.from_env(
                        environment=self._docker_env, timeout=TIMEOUT_S, max_pool_size=CONNECTIONS
                    )
                except docker.errors.DockerException as error:
                    raise self._absent_error(error) from error
            return self._client

    def _check_socket(self, timeout_s: float) -> None:
        """Check that a process listens on a local socket. Docker's SDK leaks a socket if none
        does."""
        scheme, _, path = self.address.partition("://")
        if scheme != "unix":
            return
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(timeout_s)
            try:
                probe.connect(path)
            except OSError as error:
                raise self._absent_error(error) from error

    def _absent_error(self, error: BaseException) -> EngineAbsent:
        """Make the error to raise if ``error`` means that the engine is absent."""
        return EngineAbsent(
            f"no Docker engine answers at {self.address}: {error}",
            remedy="start Docker, or set DOCKER_HOST to its address",
            exit_code=69,  # EX_UNAVAILABLE
        )

    @contextmanager
    def connect(self) -> Iterator[Any]:
        """Give a `docker.DockerClient`, and translate lost connections in the block.

        Docker's error answers (`APIError`) are raised unchanged.

        Raises:
            EngineAbsent: no engine answers, or the connection was lost in the block.
        """
        import docker
        import requests
        import urllib3

        try:
            yield self.client()
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            # Docker's error answers are RequestExceptions, too.
            if isinstance(error, docker.errors.APIError):
                raise
            raise self._absent_error(error) from error

    def problem(self) -> str:
        """Return why the engine is unavailable, "" if it answers.

        It takes a few seconds at most: it opens its own connection, since those of the pool may
        be waiting for an engine that accepts connections and doesn't answer.
        """
        import docker
        import requests
        import urllib3

        version = docker.constants.DEFAULT_DOCKER_API_VERSION  # given: no request to negotiate it
        try:
            self._check_socket(PING_TIMEOUT_S)
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
            return self._absent_error(error).message
        return ""

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()


def close_stream(stream: Any) -> None:
    """Close a Docker stream; its reader sees EOF.

    Args:
        stream: a ``docker.types.CancellableStream``, ended already or not.
    """
    # If the stream has ended, the SDK fails to find its socket.
    with suppress(AttributeError, OSError):
        stream.close()
