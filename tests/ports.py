"""Ports for what the tests start, which no other process takes before it listens."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Iterable
from pathlib import Path

from telemetry.settings import stack as stack_settings

# The kernel gives outgoing connections, and whoever asks for any port, one from its own range: a
# port from there may be taken between our look and the start of the process that is to have it.
# Below that range, then; where it begins so low that little is left, in it all the same.
_KERNELS = Path("/proc/sys/net/ipv4/ip_local_port_range")
_END = int(_KERNELS.read_text().split()[0]) if _KERNELS.exists() else 32_768
_RANGE = range(_END - 12_000, _END) if _END > 14_000 else range(10_000, 60_000)
# Each worker of pytest-xdist has every n-th port: it doesn't know what the others have given.
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_OWN = _RANGE[_WORKER :: int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))]
_given: set[int] = set()


def free_port(address: str = "127.0.0.1") -> int:
    """A port that nobody listens on, never given before in this process."""
    while True:
        port = random.choice(_OWN)
        if port in _given:
            continue
        with socket.socket() as probe:
            try:
                probe.bind((address, port))
            except OSError:
                continue
        _given.add(port)
        return port


def free_ports(names: Iterable[str] = stack_settings.PORTS) -> dict[str, int]:
    """A free port for each name, by default for each of the stack's."""
    return {name: free_port() for name in names}
