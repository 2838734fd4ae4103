"""What a container reaches over its network: the relay, and nothing else of this machine."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from telemetry.services.platform.containers import network
from tests.fixtures.docker import IMAGE, DockerEngine
from tests.fixtures.otlp import Receiver
from tests.fixtures.stack import until
from tests.platform.conftest import Running, Start

pytestmark = pytest.mark.docker
SERVE = ["httpd", "-f", "-p", "8000", "-h", "/etc"]


def connect(docker: DockerEngine, name: str, host: str, port: int | None) -> str:
    """Return "connected", or why a program in a container can't connect to an address."""
    script = f"nc -w 2 {host} {port} < /dev/null 2>&1 && echo connected"
    output = docker.client.containers.get(name).exec_run(["sh", "-c", script]).output.decode()
    return str(output.strip().rpartition(": ")[2])


def address_of(docker: DockerEngine, name: str) -> str:
    attrs = docker.client.containers.get(name).attrs
    (joined,) = attrs["NetworkSettings"]["Networks"].values()
    return str(joined["IPAddress"])


def test_container_reaches_the_relay_and_no_other_port_of_this_machine(
    platform: Running, docker_engine: DockerEngine, otlp: Receiver
) -> None:
    """Neither on the gateway address, nor on what it calls loopback."""
    platform.make("ann")
    gateway = network.ensure(docker_engine.client, "telemetry")
    port = platform.platform.settings.relay_port
    assert connect(docker_engine, "telemetry-ann", gateway, port) == "connected"
    for url in (platform.url, platform.proxy_url, otlp.url):
        for host in (gateway, "127.0.0.1"):
            said = connect(docker_engine, "telemetry-ann", host, urlsplit(url).port)
            assert said == "Connection refused", (host, url)


def test_container_does_not_reach_another_ones_ports(
    run_platform: Start, networked_docker: DockerEngine
) -> None:
    """On an ordinary network of the same engine it would."""
    docker = networked_docker
    with run_platform(
        DOCKER_HOST=docker.base_url, TELEMETRY_PLATFORM_RELAY_HOST="localhost"
    ) as platform:
        platform.make("bob", command=SERVE)
        platform.make("ann")
        bob = address_of(docker, "telemetry-bob")
        until(lambda: connect(docker, "telemetry-bob", bob, 8000) == "connected")
        assert "timed out" in connect(docker, "telemetry-ann", bob, 8000)

    docker.client.networks.create("ordinary", "bridge")
    for name, command in (("server", SERVE), ("client", ["sleep", "3600"])):
        docker.client.containers.run(IMAGE, command, name=name, network="ordinary", detach=True)
    server = address_of(docker, "server")
    until(lambda: connect(docker, "client", server, 8000) == "connected")
