"""The network of provisioned containers: one of its name, also if created concurrently."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from telemetry.services.http import HTTPError
from telemetry.services.platform.containers import network
from tests.fixtures.docker import DockerEngine

pytestmark = pytest.mark.docker


def named(docker: DockerEngine, name: str) -> list[str]:
    return [each.id for each in docker.client.networks.list(names=[name]) if each.name == name]


def test_concurrent_calls_create_one_network(empty_docker: DockerEngine) -> None:
    with ThreadPoolExecutor(8) as pool:
        gateways = set(pool.map(lambda _: network.ensure(empty_docker.client, "shared"), range(16)))
    assert len(gateways) == 1
    assert len(named(empty_docker, "shared")) == 1


def test_of_several_networks_the_oldest_and_foreign_ones_stay(empty_docker: DockerEngine) -> None:
    """Two platforms on one engine may create them; Docker allows it."""

    def make(**options: object) -> str:
        made = empty_docker.client.networks.create(
            "shared", "bridge", check_duplicate=False, **options
        )
        return str(made.id)

    oldest = make(options=network.ISOLATED)
    foreign = make()
    make(options=network.ISOLATED)
    network.ensure(empty_docker.client, "shared")
    assert set(named(empty_docker, "shared")) == {oldest, foreign}


def test_network_that_is_not_a_bridge_is_refused(empty_docker: DockerEngine) -> None:
    with pytest.raises(HTTPError, match="not a bridge"):
        network.ensure(empty_docker.client, "host")
