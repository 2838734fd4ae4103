"""Create the Docker network of provisioned containers.

All containers share one network: Docker's default address pools allow only about thirty.
Containers on it can't reach each other (``enable_icc`` is off). They reach the internet and the
network's gateway address, which is this machine, where the platform's relay listens.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import Any

from telemetry.services.http import HTTPError

ISOLATED = {"com.docker.network.bridge.enable_icc": "false"}

# The platform ensures it at its start, and each provisioning does, maybe at the same time.
_ensuring = threading.Lock()


def ensure(client: Any, name: str) -> str:
    """Create the network if it is missing.

    Args:
        client: a `docker.DockerClient`.
        name: the network's name.

    Returns:
        Its gateway address.

    Raises:
        HTTPError: another network has that name.
        docker.errors.APIError: Docker can't create it.
    """
    with _ensuring:
        network = _oldest(client, name) or _create(client, name)
    network.reload()
    attrs = network.attrs
    if attrs["Driver"] != "bridge" or not attrs["IPAM"]["Config"]:
        raise HTTPError(
            503,
            f"the Docker network {name} exists and is not a bridge",
            "set TELEMETRY_PLATFORM_NETWORK to another name",
        )
    return str(attrs["IPAM"]["Config"][0]["Gateway"])


def _create(client: Any, name: str) -> Any:
    created = client.networks.create(name, "bridge", options=ISOLATED, check_duplicate=True)
    # Docker's check for duplicates misses those created at the same time.
    return _oldest(client, name) or created


def _oldest(client: Any, name: str) -> Any | None:
    """Return the network of this name, of several the oldest.

    With several, no container could join one by name: the other ones that a platform created are
    removed, unless they are in use.
    """
    import docker

    found = [each for each in client.networks.list(names=[name]) if each.name == name]
    found.sort(key=lambda each: (each.attrs["Created"], each.id))
    for other in found[1:]:
        if other.attrs["Options"] == ISOLATED:
            with suppress(docker.errors.APIError):
                other.remove()
    return found[0] if found else None
