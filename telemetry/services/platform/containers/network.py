"""The Docker network of provisioned containers, and how they reach this machine through it.

One network for all, not one each: Docker's default address pools end after about thirty.
Containers on it don't reach each other (``enable_icc`` is off); each reaches the world, and the
network's gateway address, which is this machine, where the platform's relay listens.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import Any

from telemetry.services.http import HTTPError

ISOLATED = {"com.docker.network.bridge.enable_icc": "false"}

# The platform makes sure of it at its start, and each provisioning does, at the same moment maybe.
_ensuring = threading.Lock()


def ensure(client: Any, name: str) -> str:
    """Make the network where it is missing.

    Args:
        client: a `docker.DockerClient`.
        name: the network's.

    Returns:
        Its gateway address.

    Raises:
        HTTPError: another network has that name.
        docker.errors.APIError: Docker can't make it.
    """
    with _ensuring:
        network = _oldest(client, name) or _made(client, name)
    network.reload()
    attrs = network.attrs
    if attrs["Driver"] != "bridge" or not attrs["IPAM"]["Config"]:
        raise HTTPError(
            503,
            f"the Docker network {name} exists and is not a bridge",
            "set TELEMETRY_PLATFORM_NETWORK to another name",
        )
    return str(attrs["IPAM"]["Config"][0]["Gateway"])


def _made(client: Any, name: str) -> Any:
    made = client.networks.create(name, "bridge", options=ISOLATED, check_duplicate=True)
    # Docker's look for duplicates doesn't see those that others make meanwhile.
    return _oldest(client, name) or made


def _oldest(client: Any, name: str) -> Any | None:
    """The network of this name. Of several, which no container could be put on by name, the
    oldest; others of our making are removed, unless they are in use.
    """
    import docker

    found = [each for each in client.networks.list(names=[name]) if each.name == name]
    found.sort(key=lambda each: (each.attrs["Created"], each.id))
    for other in found[1:]:
        if other.attrs["Options"] == ISOLATED:
            with suppress(docker.errors.APIError):
                other.remove()
    return found[0] if found else None
