"""A dispatch: one message on its way to an answer, with its events."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Literal

from opentelemetry import trace
from opentelemetry.trace import SpanContext, TraceFlags

from telemetry.services.gateway.kernel import Call

Status = Literal["ok", "error", "cancelled", "rejected"]
Source = Literal["web", "api"]
Event = dict[str, Any]


def current_span() -> SpanContext:
    """Return the caller's span; if there is none, one of a new trace."""
    current = trace.get_current_span().get_span_context()
    if current.is_valid:
        return current
    sampled = TraceFlags(TraceFlags.SAMPLED)
    return SpanContext(secrets.randbits(128) or 1, secrets.randbits(64) or 1, False, sampled)


@dataclass(eq=False)
class Dispatch:
    """One message on its way to an answer.

    Its events are dicts with a ``type``: ``delta`` (``text``) and ``tool`` (``name``) as the
    answer arrives, ``end`` (``status``, ``error``) when it is complete, ``done`` with all facts
    when its cost is settled, too.

    Args:
        prompt: the user's message.
        source: where the message came from.
        session: the session it belongs to.
        number: the client's id of the message.
        remembered: whether the session's history stores it.
    """

    prompt: str
    source: Source
    session: str
    number: str = field(default_factory=lambda: secrets.token_hex(8))
    remembered: bool = True
    span: SpanContext = field(default_factory=current_span)
    began: float = field(default_factory=time.perf_counter)
    task: asyncio.Task[tuple[Status, str]] | None = None
    tools: list[str] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    answer: str = ""
    _events: list[Event] = field(default_factory=list)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def trace_id(self) -> str:
        return f"{self.span.trace_id:032x}"

    @property
    def traceparent(self) -> str:
        return f"00-{self.trace_id}-{self.span.span_id:016x}-{self.span.trace_flags:02x}"

    def emit(self, event: Event) -> None:
        """Add an event; ``done`` is the last."""
        self._events.append(event)
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def stream(self) -> AsyncIterator[Event]:
        """Yield all events, past and future, until ``done``. There may be several readers."""
        seen = 0
        while True:
            changed = self._changed
            while seen < len(self._events):
                event = self._events[seen]
                seen += 1
                yield event
                if event["type"] == "done":
                    return
            await changed.wait()
