"""The network of provisioned containers: one of its name, whoever makes it when."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from telemetry.services.http import HTTPError
from telemetry.services.platform.containers import network
from tests.fixtures.docker import DockerEngine

pytestmark = pytest.mark.docker


def named(docker: DockerEngine, name: str) -> list[str]:
    return [each.id for each in docker.client.networks.list(names=[name]) if each.name == name]


def test_made_by_many_at_once_it_is_one(empty_docker: DockerEngine) -> None:
    with ThreadPoolExecutor(8) as pool:
        gateways = set(pool.map(lambda _: network.ensure(empty_docker.client, "shared"), range(16)))
    assert len(gateways) == 1
    assert len(named(empty_docker, "shared")) == 1


def test_of_several_the_oldest_stays_and_whatever_is_not_ours(empty_docker: DockerEngine) -> None:
    """As two platforms on one engine may make them, and Docker lets them."""

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


def test_another_kind_of_network_is_not_used(empty_docker: DockerEngine) -> None:
    with pytest.raises(HTTPError, match="not a bridge"):
        network.ensure(empty_docker.client, "host")
