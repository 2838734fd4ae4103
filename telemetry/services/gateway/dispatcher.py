"""From a message to its answer: a bounded queue, so many at once, one a session at a time.

Every dispatch, whatever becomes of it, is counted, settled and written into the interaction
log exactly once.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal

from opentelemetry import context, trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from telemetry import catalog, metrics
from telemetry.services.gateway.interaction_log import Entry, InteractionLog
from telemetry.services.gateway.kernel import (
    Call,
    Kernel,
    KernelError,
    Request,
    Text,
    ToolUse,
    Usage,
)
from telemetry.services.gateway.proxy_client import ProxyClient

Status = Literal["ok", "error", "cancelled", "rejected"]
HISTORY_TURNS = 20  # (role, text) pairs a model is reminded of; a judgement
SESSIONS_KEPT = 1000

_log = logging.getLogger(__name__)


class QueueFull(Exception):
    """Nothing more can wait."""


@dataclass(eq=False)
class Dispatch:
    """One message on its way.

    Args:
        prompt: what was asked.
        source: where it came from: web, api, …
        session: whose conversation it belongs to.
        number: what the asker calls it.
    """

    prompt: str
    source: str
    session: str
    number: str = ""
    span: SpanContext = field(default_factory=lambda: new_span())
    began: float = field(default_factory=time.perf_counter)
    task: asyncio.Task[None] | None = None
    tools: list[str] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    answer: str = ""
    _events: list[dict[str, Any]] = field(default_factory=list)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def trace_id(self) -> str:
        return f"{self.span.trace_id:032x}"

    @property
    def traceparent(self) -> str:
        return f"00-{self.trace_id}-{self.span.span_id:016x}-01"

    def tell(self, event: dict[str, Any]) -> None:
        """Something happened to it; ``done`` is the last."""
        self._events.append(event)
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def stream(self) -> AsyncIterator[dict[str, Any]]:
        """What has happened to it and what will, to its end; for as many as want to know."""
        seen = 0
        while True:
            changed = self._changed
            for event in self._events[seen:]:
                seen += 1
                yield event
                if event["type"] == "done":
                    return
            await changed.wait()


def new_span() -> SpanContext:
    """A span of the current trace, of a new one where there is none."""
    current = trace.get_current_span().get_span_context()
    trace_id = current.trace_id if current.is_valid else secrets.randbits(128) or 1
    return SpanContext(trace_id, secrets.randbits(64) or 1, False, TraceFlags(1))


class Dispatcher:
    """Hands messages to the kernel.

    Args:
        kernel: what answers.
        proxy: tells what calls cost.
        log: where each dispatch is written.
        model: named in the log where no call was made.
        queue_limit: messages that may wait.
        concurrency: messages answered at once.
    """

    def __init__(
        self,
        kernel: Kernel,
        proxy: ProxyClient,
        log: InteractionLog,
        *,
        model: str,
        queue_limit: int,
        concurrency: int,
    ) -> None:
        self._kernel, self._proxy, self._log, self._model = kernel, proxy, log, model
        self._queue_limit, self._concurrency = queue_limit, concurrency
        self._waiting: deque[Dispatch] = deque()
        self._running: dict[str, Dispatch] = {}
        self._finishing: set[asyncio.Task[None]] = set()
        self._history: OrderedDict[str, list[dict[str, Any]]] = OrderedDict()
        self._closing = False
        self._dispatches = metrics.counter(catalog.GATEWAY_KERNEL_DISPATCH)
        self._duration = metrics.histogram(catalog.GATEWAY_KERNEL_DISPATCH_DURATION)
        self._depth = metrics.gauge(catalog.GATEWAY_DISPATCH_QUEUE_DEPTH)
        self._cost = metrics.counter(catalog.GATEWAY_AI_COST)
        self._tokens = metrics.counter(catalog.GATEWAY_AI_TOKENS)
        self._depth.set(0)
        for status in ("ok", "error", "cancelled", "rejected"):
            for source in ("web", "api"):
                self._dispatches.touch({"source": source, "status": status})

    def submit(self, dispatch: Dispatch) -> None:
        """Take a message; its events begin to come.

        Raises:
            QueueFull: it was counted and logged as rejected.
        """
        if self._closing or len(self._waiting) >= self._queue_limit:
            self._finish(dispatch, "rejected", "the queue is full")
            raise QueueFull
        self._waiting.append(dispatch)
        self._start()

    def history(self, session: str) -> list[dict[str, Any]]:
        """What was said in a session, oldest first: {role, text, …}."""
        return list(self._history.get(session, ()))

    def active(self, session: str) -> list[Dispatch]:
        """What a session has running or waiting."""
        running = self._running.get(session)
        waiting = [d for d in self._waiting if d.session == session]
        return [running, *waiting] if running is not None else waiting

    def cancel(self, dispatch: Dispatch) -> None:
        """Stop a dispatch, wherever it is."""
        if dispatch in self._waiting:
            self._waiting.remove(dispatch)
            self._depth.set(len(self._waiting))
            self._finish(dispatch, "cancelled", "")
        elif dispatch.task is not None:
            dispatch.task.cancel()

    async def close(self, timeout_s: float) -> None:
        """Finish what is running, take nothing new; cancel what takes longer."""
        self._closing = True
        try:
            async with asyncio.timeout(timeout_s):
                for dispatch in [*self._running.values(), *self._waiting]:
                    async for _ in dispatch.stream():
                        pass
        except TimeoutError:
            pass
        for dispatch in [*self._running.values(), *self._waiting]:
            self.cancel(dispatch)
        if self._finishing:
            await asyncio.wait(set(self._finishing), timeout=5)

    def _start(self) -> None:
        """Start what may start: in order, but past sessions that are busy."""
        for dispatch in list(self._waiting):
            if len(self._running) >= self._concurrency:
                break
            if dispatch.session in self._running:
                continue
            self._waiting.remove(dispatch)
            self._running[dispatch.session] = dispatch
            dispatch.task = asyncio.create_task(self._answer(dispatch))
        self._depth.set(len(self._waiting))

    async def _answer(self, dispatch: Dispatch) -> None:
        token = context.attach(trace.set_span_in_context(NonRecordingSpan(dispatch.span)))
        status: Status = "ok"
        error = ""
        try:
            past = self._history.get(dispatch.session, ())
            history = [(entry["role"], entry["text"]) for entry in past if entry["text"]]
            request = Request(dispatch.prompt, history[-HISTORY_TURNS:], dispatch.traceparent)
            await self._run(dispatch, request)
        except asyncio.CancelledError:
            status = "cancelled"
        except KernelError as failure:
            status, error = "error", str(failure)
        except Exception:
            _log.exception("the kernel failed")
            status, error = "error", "the kernel failed; the gateway's log says how"
        finally:
            self._running.pop(dispatch.session, None)
            self._start()
            self._finish(dispatch, status, error)
            context.detach(token)

    async def _run(self, dispatch: Dispatch, request: Request) -> None:
        async for event in self._kernel.run(request):
            if isinstance(event, Text):
                dispatch.answer += event.text
                dispatch.tell({"type": "delta", "text": event.text})
            elif isinstance(event, ToolUse):
                dispatch.tools.append(event.name)
                dispatch.tell({"type": "tool", "name": event.name})
            else:
                dispatch.calls.append(event)

    def _finish(self, dispatch: Dispatch, status: Status, error: str) -> None:
        elapsed = time.perf_counter() - dispatch.began
        labels = {"source": dispatch.source}
        self._dispatches.add(1, labels | {"status": status})
        if status != "rejected":
            self._duration.record(elapsed, labels)
        task = asyncio.create_task(self._settle(dispatch, status, error, elapsed))
        self._finishing.add(task)
        task.add_done_callback(self._finishing.discard)

    async def _settle(self, dispatch: Dispatch, status: Status, error: str, elapsed: float) -> None:
        """Learn the cost, tell the caller, write the line."""
        usage = Usage()
        try:
            if dispatch.calls:
                usage = await self._proxy.usage(dispatch.calls)
        except Exception:
            _log.exception("the cost of a dispatch could not be learned")
        for model, (tokens_in, tokens_out, cost) in usage.models.items():
            self._cost.add(float(cost), {"model": model})
            self._tokens.add(tokens_in, {"model": model, "direction": "input"})
            self._tokens.add(tokens_out, {"model": model, "direction": "output"})
        done = {
            "type": "done",
            "status": status,
            "error": error,
            "tokensIn": usage.tokens_in,
            "tokensOut": usage.tokens_out,
            "costUsd": usage.cost_usd,
            "durationMs": round(elapsed * 1000),
            "toolsUsed": dispatch.tools,
            "traceId": dispatch.trace_id,
        }
        if status != "rejected":
            self._remember(dispatch, done)
        # The line first: who hears "done" may look for it at once.
        await self._log.write(
            Entry(
                source=dispatch.source,
                session=dispatch.session,
                prompt=dispatch.prompt,
                tools=dispatch.tools,
                tokens_in=usage.tokens_in,
                tokens_out=usage.tokens_out,
                cost_usd=Decimal(usage.cost_usd),
                duration_ms=round(elapsed * 1000),
                status=status,
                result=error or dispatch.answer,
                model=next(iter(usage.models), self._model),
                trace_id=dispatch.trace_id,
            )
        )
        dispatch.tell(done)

    def _remember(self, dispatch: Dispatch, done: dict[str, Any]) -> None:
        entries = self._history.setdefault(dispatch.session, [])
        self._history.move_to_end(dispatch.session)
        entries.append({"role": "user", "text": dispatch.prompt})
        facts = {key: done[key] for key in ("status", "error", "costUsd", "tokensIn", "tokensOut")}
        entries.append({"role": "assistant", "text": dispatch.answer, **facts})
        del entries[: -2 * HISTORY_TURNS * 5]
        while len(self._history) > SESSIONS_KEPT:
            self._history.popitem(last=False)
