"""Ports for the tests' processes, which no other process takes before they listen."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Iterable
from pathlib import Path

from telemetry.settings import stack as stack_settings

# Choose ports below the kernel's range for outgoing connections and automatic ports: one from that
# range may be taken between our check and the start of the process. If the range begins so low
# that little is left below, use it nevertheless.
_KERNELS = Path("/proc/sys/net/ipv4/ip_local_port_range")
_END = int(_KERNELS.read_text().split()[0]) if _KERNELS.exists() else 32_768
_RANGE = range(_END - 12_000, _END) if _END > 14_000 else range(10_000, 60_000)
# Each worker of pytest-xdist uses every n-th port, since it doesn't know the others' ports.
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_OWN = _RANGE[_WORKER :: int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))]
_given: set[int] = set()


def free_port(address: str = "127.0.0.1") -> int:
    """Return a free port that this process has not returned before."""
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
    """Return a free port for each name, by default for each port of the stack."""
    return {name: free_port() for name in names}
