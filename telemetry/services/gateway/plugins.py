"""Load the kernel that the settings name.

A kernel is plugged in as an entry point of the group ``telemetry.kernels``.
"""

from __future__ import annotations

import importlib.metadata

from telemetry.errors import ConfigError
from telemetry.services.gateway.assistant import Assistant
from telemetry.services.gateway.kernel import Kernel
from telemetry.services.gateway.proxy_client import ProxyClient
from telemetry.services.gateway.settings import Settings

GROUP = "telemetry.kernels"


def load(settings: Settings, proxy: ProxyClient) -> Kernel:
    """Return the kernel that TELEMETRY_KERNEL names.

    An entry point is called with the same arguments.

    Args:
        settings: the gateway's.
        proxy: to call models with; the gateway closes it.

    Raises:
        ConfigError: there is no kernel of that name.
    """
    if settings.kernel == "assistant":
        return Assistant(settings, proxy)
    found = importlib.metadata.entry_points(group=GROUP, name=settings.kernel)
    if not found:
        known = {"assistant", *importlib.metadata.entry_points(group=GROUP).names}
        raise ConfigError("TELEMETRY_KERNEL", settings.kernel, f"one of {', '.join(sorted(known))}")
    kernel: Kernel = next(iter(found)).load()(settings, proxy)
    return kernel
