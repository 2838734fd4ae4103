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
