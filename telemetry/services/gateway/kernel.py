"""The interface of a kernel.

A kernel takes a request and yields events; it knows nothing of HTTP, queues or logs. See
`plugins` for how another kernel is plugged in.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Request:
    """One message to answer.

    Args:
        prompt: the user's message.
        history: earlier (role, text) pairs of the session, oldest first.
        traceparent: to send with every model call made for it.
    """

    prompt: str
    history: Sequence[tuple[str, str]] = ()
    traceparent: str = ""


@dataclass(frozen=True)
class Text:
    """A part of the answer."""

    text: str


@dataclass(frozen=True)
class ToolUse:
    """A tool is being used."""

    name: str


@dataclass(frozen=True)
class Call:
    """A model call was made; ``id`` is its id in the proxy's ledger."""

    id: str
    model: str


Event = Text | ToolUse | Call


class KernelError(Exception):
    """The kernel can't answer; the message is shown to the user."""


class Kernel(Protocol):
    """Answers requests."""

    def run(self, request: Request) -> AsyncGenerator[Event, None]:
        """Yield the answer as it arrives. May be cancelled like any coroutine.

        Raises:
            KernelError: there is no answer, or the rest of it is missing.
        """

    async def close(self) -> None:
        """Close connections."""
