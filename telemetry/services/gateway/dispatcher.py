"""Queue messages and have the kernel answer them, one at a time in each session.

Every dispatch, whatever its outcome, is counted, settled and written to the interaction log
exactly once.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict, deque
from collections.abc import Callable
from contextlib import aclosing
from decimal import Decimal
from functools import partial

from opentelemetry import context, trace
from opentelemetry.trace import NonRecordingSpan

from telemetry import catalog, metrics
from telemetry.services.gateway.dispatch import Dispatch, Status
from telemetry.services.gateway.history import History, Turn
from telemetry.services.gateway.interaction_log import Entry, InteractionLog
from telemetry.services.gateway.kernel import Kernel, KernelError, Request, Text, ToolUse
from telemetry.services.gateway.proxy_client import ProxyClient, Usage

# The caller gets "done" after this wait even if the log line is not written: a hanging disk must
# not delay an answer.
LOG_WAIT_S = 2.0
# When the gateway stops: time to settle cancelled dispatches, and again to log them.
STOP_STEP_S = 4.0

FACTS = ["status", "error", "toolsUsed", "durationMs", "traceId"]
FACTS += ["tokensIn", "tokensOut", "costUsd"]

_log = logging.getLogger(__name__)
Listener = Callable[[Dispatch], None]


class QueueFull(Exception):
    """The queue has no room for another message."""


class Dispatcher:
    """Passes messages to the kernel.

    Args:
        kernel: answers messages.
        proxy: looks up what calls cost.
        log: each dispatch is written to it.
        history: earlier turns.
        model: named in the log if no call was made.
        queue_limit: messages that may wait.
        concurrency: messages answered at the same time.
    """

    def __init__(
        self,
        kernel: Kernel,
        proxy: ProxyClient,
        log: InteractionLog,
        history: History,
        *,
        model: str,
        queue_limit: int,
        concurrency: int,
    ) -> None:
        self._kernel, self._proxy, self._log, self._history = kernel, proxy, log, history
        self._model = model
        self._queue_limit, self._concurrency = queue_limit, concurrency
        self._waiting: deque[Dispatch] = deque()
        self._running: dict[str, Dispatch] = {}
        self._settling: dict[asyncio.Task[None], Dispatch] = {}
        self._listeners: defaultdict[str, list[Listener]] = defaultdict(list)
        self._closing = False
        self._dispatches = metrics.counter(catalog.GATEWAY_KERNEL_DISPATCH)
        self._duration = metrics.histogram(catalog.GATEWAY_KERNEL_DISPATCH_DURATION)
        self._depth = metrics.gauge(catalog.GATEWAY_DISPATCH_QUEUE_DEPTH)
        self._cost = metrics.counter(catalog.GATEWAY_AI_COST)
        self._tokens = metrics.counter(catalog.GATEWAY_AI_TOKENS)
        self._depth.set(0)
        # Start series at 0: the first value of a series shows no increase.
        for source in ("web", "api"):
            for status in ("ok", "error", "cancelled", "rejected"):
                self._dispatches.touch({"source": source, "status": status})
        self._count_cost(model, 0, 0, Decimal(0))

    def submit(self, dispatch: Dispatch) -> None:
        """Queue a message; its events follow.

        Raises:
            QueueFull: the message was counted and logged as rejected.
        """
        if self._closing or not self._has_room(dispatch.session):
            reason = "the gateway is stopping" if self._closing else "the queue is full"
            self._finish(dispatch, "rejected", reason)
            raise QueueFull(reason)
        self._waiting.append(dispatch)
        for listener in tuple(self._listeners.get(dispatch.session, ())):
            listener(dispatch)
        self._start()

    def listen(self, session: str, listener: Listener) -> Callable[[], None]:
        """Call ``listener`` with each message queued for a session; returns a function that stops
        this."""
        self._listeners[session].append(listener)

        def stop() -> None:
            self._listeners[session].remove(listener)
            if not self._listeners[session]:
                del self._listeners[session]

        return stop

    def active(self, session: str) -> list[Dispatch]:
        """Return a session's running and waiting dispatches."""
        running = self._running.get(session)
        waiting = [d for d in self._waiting if d.session == session]
        return [running, *waiting] if running is not None else waiting

    def settling(self, session: str) -> list[Dispatch]:
        """Return a session's answered dispatches whose cost is not yet known."""
        return [d for d in self._settling.values() if d.session == session]

    def cancel(self, dispatch: Dispatch) -> None:
        """Cancel a waiting or running dispatch; ignored if it has ended."""
        if dispatch in self._waiting:
            self._waiting.remove(dispatch)
            self._depth.set(len(self._waiting))
            self._finish(dispatch, "cancelled", "")
        elif dispatch.task is not None:
            dispatch.task.cancel()

    async def close(self, timeout_s: float) -> None:
        """Reject new messages, finish running and waiting ones, cancel them after a timeout."""
        self._closing = True
        await self._drain(timeout_s)
        for dispatch in [*self._waiting, *self._running.values()]:
            self.cancel(dispatch)
        await self._drain(STOP_STEP_S)
        for task in tuple(self._settling):
            task.cancel()  # its line is still written, without the cost
        await self._drain(STOP_STEP_S)

    async def _drain(self, timeout_s: float) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                while tasks := {d.task for d in self._running.values() if d.task} | set(
                    self._settling
                ):
                    await asyncio.wait(tasks)
        except TimeoutError:
            pass

    def _has_room(self, session: str) -> bool:
        if len(self._waiting) < self._queue_limit:
            return True
        # One busy session may have filled the queue; a message that need not wait passes it.
        return len(self._running) < self._concurrency and not self.active(session)

    def _start(self) -> None:
        """Start waiting dispatches in order, except those of busy sessions."""
        for dispatch in list(self._waiting):
            if len(self._running) >= self._concurrency:
                break
            if dispatch.session in self._running:
                continue
            self._waiting.remove(dispatch)
            self._running[dispatch.session] = dispatch
            dispatch.task = asyncio.create_task(self._answer(dispatch))
            # Not by `finally` in the coroutine: if cancelled before its start, it runs none.
            dispatch.task.add_done_callback(partial(self._ended, dispatch))
        self._depth.set(len(self._waiting))

    async def _answer(self, dispatch: Dispatch) -> tuple[Status, str]:
        context.attach(trace.set_span_in_context(NonRecordingSpan(dispatch.span)))
        request = Request(
            dispatch.prompt, self._history.context(dispatch.session), dispatch.traceparent
        )
        try:
            async with aclosing(self._kernel.run(request)) as events:
                async for event in events:
                    if isinstance(event, Text):
                        dispatch.answer += event.text
                        dispatch.emit({"type": "delta", "text": event.text})
                    elif isinstance(event, ToolUse):
                        dispatch.tools.append(event.name)
                        dispatch.emit({"type": "tool", "name": event.name})
                    else:
                        dispatch.calls.append(event)
        except KernelError as error:
            return "error", str(error)
        except Exception:
            _log.exception("the kernel failed")
            return "error", "the kernel failed; see the gateway's log"
        return "ok", ""

    def _ended(self, dispatch: Dispatch, task: asyncio.Task[tuple[Status, str]]) -> None:
        del self._running[dispatch.session]
        self._finish(dispatch, *(("cancelled", "") if task.cancelled() else task.result()))
        self._start()

    def _finish(self, dispatch: Dispatch, status: Status, error: str) -> None:
        elapsed_s = time.perf_counter() - dispatch.began
        labels = {"source": dispatch.source}
        self._dispatches.add(1, labels | {"status": status})
        if status != "rejected":
            self._duration.record(elapsed_s, labels)
        dispatch.emit({"type": "end", "status": status, "error": error})
        facts: Turn = {
            "status": status,
            "error": error,
            "toolsUsed": dispatch.tools,
            "durationMs": round(elapsed_s * 1000),
            "traceId": dispatch.trace_id,
        }
        # Now, not after settling: the session's next message may start before that.
        remembered = dispatch.remembered and status != "rejected"
        if remembered:
            turn = self._history.add(
                dispatch.session, dispatch.number, dispatch.prompt, dispatch.answer
            )
            turn.update(facts)
            facts = turn
        task = asyncio.create_task(self._settle(dispatch, facts, remembered))
        self._settling[task] = dispatch
        task.add_done_callback(self._settling.pop)

    async def _settle(self, dispatch: Dispatch, facts: Turn, remembered: bool) -> None:
        """Look up the cost, write the log line, emit ``done``."""
        usage = Usage()
        try:
            usage = await self._proxy.usage(dispatch.calls, dispatch.traceparent)
        except asyncio.CancelledError:
            _log.warning("stopped before the cost of dispatch %s was known", dispatch.trace_id)
        except Exception:
            _log.exception("the cost of a dispatch could not be looked up")
        for model, (tokens_in, tokens_out, cost) in usage.models.items():
            self._count_cost(model, tokens_in, tokens_out, Decimal(cost))
        facts["tokensIn"], facts["tokensOut"] = usage.tokens_in, usage.tokens_out
        facts["costUsd"] = usage.cost_usd
        entry = Entry(
            source=dispatch.source,
            session=dispatch.session,
            prompt=dispatch.prompt,
            tools=dispatch.tools,
            tokens_in=usage.tokens_in,
            tokens_out=usage.tokens_out,
            cost_usd=Decimal(usage.cost_usd),
            duration_ms=facts["durationMs"],
            status=facts["status"],
            result=facts["error"] or dispatch.answer,
            model=next(iter(usage.models), self._model),
            trace_id=dispatch.trace_id,
        )
        # Before "done": the caller may look for the line at once.
        written = asyncio.ensure_future(self._log.write(entry))
        await asyncio.wait({written}, timeout=LOG_WAIT_S)
        if remembered:
            await self._history.save(dispatch.session)
        dispatch.emit({"type": "done", **{key: facts[key] for key in FACTS}})

    def _count_cost(self, model: str, tokens_in: int, tokens_out: int, cost: Decimal) -> None:
        self._cost.add(float(cost), {"model": model})
        self._tokens.add(tokens_in, {"model": model, "direction": "input"})
        self._tokens.add(tokens_out, {"model": model, "direction": "output"})
