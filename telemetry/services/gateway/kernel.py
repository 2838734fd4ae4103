"""What a kernel is, and which one answers.

A kernel takes a request and yields events; it knows nothing of HTTP, queues or logs. Another
one is plugged in as an entry point of the group ``telemetry.kernels`` and named by
TELEMETRY_KERNEL.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from telemetry.errors import ConfigError

if TYPE_CHECKING:
    from telemetry.services.gateway.proxy_client import ProxyClient
    from telemetry.services.gateway.settings import Settings

GROUP = "telemetry.kernels"


@dataclass(frozen=True)
class Request:
    """One message to answer.

    Args:
        prompt: what was asked.
        history: earlier (role, text) pairs of the session, oldest first.
        traceparent: to send on with every call that is made for it.
    """

    prompt: str
    history: Sequence[tuple[str, str]] = ()
    traceparent: str = ""


@dataclass(frozen=True)
class Text:
    """A piece of the answer."""

    text: str


@dataclass(frozen=True)
class ToolUse:
    """A tool is being used."""

    name: str


@dataclass(frozen=True)
class Call:
    """A model call was made; the proxy's ledger knows it by this id."""

    id: str
    model: str


Event = Text | ToolUse | Call


class KernelError(Exception):
    """The kernel can't answer; the text is for the user."""


class Kernel(Protocol):
    """Answers requests."""

    def run(self, request: Request) -> AsyncGenerator[Event, None]:
        """The answer as it comes. Cancelled like any coroutine.

        Raises:
            KernelError: there is no answer, or no more of it.
        """

    async def close(self) -> None:
        """Let go of connections."""


def load(settings: Settings, proxy: ProxyClient) -> Kernel:
    """The kernel that the settings name. What an entry point names is called with the same
    arguments.

    Args:
        settings: the gateway's.
        proxy: to call models with; closed by the gateway.

    Raises:
        ConfigError: there is none of that name.
    """
    if settings.kernel == "agent":
        from telemetry.services.gateway.agent import Agent

        return Agent(settings, proxy)
    found = importlib.metadata.entry_points(group=GROUP, name=settings.kernel)
    if not found:
        known = {"agent", *importlib.metadata.entry_points(group=GROUP).names}
        raise ConfigError("TELEMETRY_KERNEL", settings.kernel, f"one of {', '.join(sorted(known))}")
    kernel: Kernel = next(iter(found)).load()(settings, proxy)
    return kernel
