"""Host names of the gateway, the platform and the proxy."""

from __future__ import annotations

import re

from telemetry.settings.declare import Kind, Setting

_NAME = re.compile(r"[a-z0-9._-]+|\[[0-9a-f:.]+\]")


def _hosts(text: str) -> tuple[str, ...]:
    hosts = tuple(text.lower().split())
    for host in hosts:
        if not _NAME.fullmatch(host):
            raise ValueError(host)
    return hosts


HOSTS = Setting(
    "TELEMETRY_HOSTS",
    Kind(
        _hosts,
        "host names without port, such as monitor.example [2001:db8::1], separated by spaces",
        " ".join,
    ),
    (),
    "further host names by which browsers and clients address the gateway, the platform and the "
    "proxy, separated by spaces",
)
