"""The Docker network of provisioned containers, and how they reach this machine through it.

One network for all, not one each: Docker's default address pools end after about thirty.
Containers on it don't reach each other (``enable_icc`` is off); each reaches the world, and the
network's gateway address, which is this machine, where the platform's relay listens.
"""

from __future__ import annotations

from typing import Any

from telemetry.services.platform.problems import Problem

ISOLATED = {"com.docker.network.bridge.enable_icc": "false"}


def ensure(client: Any, name: str) -> str:
    """Make the network where it is missing.

    Args:
        client: a `docker.DockerClient`.
        name: the network's.

    Returns:
        Its gateway address.

    Raises:
        Problem: another network has that name.
        docker.errors.APIError: Docker can't make it.
    """
    # Docker allows several networks of one name unless told to look first.
    found = [each for each in client.networks.list(names=[name]) if each.name == name]
    network = (
        found[0]
        if found
        else client.networks.create(name, "bridge", options=ISOLATED, check_duplicate=True)
    )
    network.reload()
    attrs = network.attrs
    if attrs["Driver"] != "bridge" or not attrs["IPAM"]["Config"]:
        raise Problem(
            503,
            f"the Docker network {name} exists and is not a bridge",
            "set TELEMETRY_PLATFORM_NETWORK to another name",
        )
    return str(attrs["IPAM"]["Config"][0]["Gateway"])
