"""What a kernel is, and which one answers.

A kernel takes a request and yields events; it knows nothing of HTTP, queues or logs. Another
one is plugged in as an entry point of the group ``telemetry.kernels`` and named by
TELEMETRY_KERNEL.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from telemetry.errors import ConfigError

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

    def run(self, request: Request) -> AsyncIterator[Event]:
        """The answer as it comes. Cancelled by closing the iterator.

        Raises:
            KernelError: there is no answer, or no more of it.
        """

    async def close(self) -> None:
        """Let go of connections."""


@dataclass
class Usage:
    """What a dispatch used, as the ledger settled it."""

    tokens_in: int = 0
    tokens_out: int = 0
    cost_usd: str = "0"
    models: dict[str, tuple[int, int, str]] = field(default_factory=dict)
    """By model: tokens in, tokens out, cost in USD."""


def load(name: str, settings: Any) -> Kernel:
    """The kernel of that name, made with the gateway's settings.

    Raises:
        ConfigError: there is none.
    """
    if name == "agent":
        from telemetry.services.gateway.agent import Agent

        return Agent(settings)
    found = importlib.metadata.entry_points(group=GROUP, name=name)
    if not found:
        known = ["agent", *importlib.metadata.entry_points(group=GROUP).names]
        raise ConfigError("TELEMETRY_KERNEL", name, f"one of {', '.join(sorted(known))}")
    kernel: Kernel = next(iter(found)).load()(settings)
    return kernel
