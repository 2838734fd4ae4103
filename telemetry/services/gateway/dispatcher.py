"""From a message to its answer: a bounded queue, so many at once, one a session at a time.

Every dispatch, whatever becomes of it, is counted, settled and written into the interaction
log exactly once.
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

# Longest wait for the log's line before the caller hears "done" without it: a disk that hangs
# must not hold an answer.
LOG_WAIT_S = 2.0
# For what was cancelled when the gateway stops: to be settled, and to be written.
LAST_S = 4.0

FACTS = ["status", "error", "toolsUsed", "durationMs", "traceId"]
FACTS += ["tokensIn", "tokensOut", "costUsd"]

_log = logging.getLogger(__name__)
Listener = Callable[[Dispatch], None]


class QueueFull(Exception):
    """Nothing more can wait."""


class Dispatcher:
    """Hands messages to the kernel.

    Args:
        kernel: what answers.
        proxy: tells what calls cost.
        log: where each dispatch is written.
        history: what was said before.
        model: named in the log where no call was made.
        queue_limit: messages that may wait.
        concurrency: messages answered at once.
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
        # Series begin at 0: an increase can't be seen in a series' first value.
        for source in ("web", "api"):
            for status in ("ok", "error", "cancelled", "rejected"):
                self._dispatches.touch({"source": source, "status": status})
        self._count_cost(model, 0, 0, Decimal(0))

    def submit(self, dispatch: Dispatch) -> None:
        """Take a message; its events begin to come.

        Raises:
            QueueFull: it was counted and logged as rejected.
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
        """Have ``listener`` called with each message taken for a session; returns how to stop."""
        self._listeners[session].append(listener)

        def stop() -> None:
            self._listeners[session].remove(listener)
            if not self._listeners[session]:
                del self._listeners[session]

        return stop

    def active(self, session: str) -> list[Dispatch]:
        """What a session has running or waiting."""
        running = self._running.get(session)
        waiting = [d for d in self._waiting if d.session == session]
        return [running, *waiting] if running is not None else waiting

    def settling(self, session: str) -> list[Dispatch]:
        """What a session has answered, its cost not yet known."""
        return [d for d in self._settling.values() if d.session == session]

    def cancel(self, dispatch: Dispatch) -> None:
        """Stop a dispatch, wherever it is; nothing where it has ended."""
        if dispatch in self._waiting:
            self._waiting.remove(dispatch)
            self._depth.set(len(self._waiting))
            self._finish(dispatch, "cancelled", "")
        elif dispatch.task is not None:
            dispatch.task.cancel()

    async def close(self, timeout_s: float) -> None:
        """Finish what is running or waiting, take nothing new; cancel what takes longer."""
        self._closing = True
        await self._drain(timeout_s)
        for dispatch in [*self._waiting, *self._running.values()]:
            self.cancel(dispatch)
        await self._drain(LAST_S)
        for task in tuple(self._settling):
            task.cancel()  # the line is written all the same, without the cost
        await self._drain(LAST_S)

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
        # Those of one busy session may fill the queue; what needn't wait gets past them.
        return len(self._running) < self._concurrency and not self.active(session)

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
            # Not a `finally` in the coroutine: one that is cancelled before it began has none.
            dispatch.task.add_done_callback(partial(self._ended, dispatch))
        self._depth.set(len(self._waiting))

    async def _answer(self, dispatch: Dispatch) -> tuple[Status, str]:
        context.attach(trace.set_span_in_context(NonRecordingSpan(dispatch.span)))
        request = Request(
            dispatch.prompt, self._history.reminder(dispatch.session), dispatch.traceparent
        )
        try:
            async with aclosing(self._kernel.run(request)) as events:
                async for event in events:
                    if isinstance(event, Text):
                        dispatch.answer += event.text
                        dispatch.tell({"type": "delta", "text": event.text})
                    elif isinstance(event, ToolUse):
                        dispatch.tools.append(event.name)
                        dispatch.tell({"type": "tool", "name": event.name})
                    else:
                        dispatch.calls.append(event)
        except KernelError as error:
            return "error", str(error)
        except Exception:
            _log.exception("the kernel failed")
            return "error", "the kernel failed; the gateway's log says how"
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
        dispatch.tell({"type": "end", "status": status, "error": error})
        facts: Turn = {
            "status": status,
            "error": error,
            "toolsUsed": dispatch.tools,
            "durationMs": round(elapsed_s * 1000),
            "traceId": dispatch.trace_id,
        }
        # Now, not when it is settled: the session's next message may start before that.
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
        """Learn the cost, write the line, tell the caller."""
        usage = Usage()
        try:
            usage = await self._proxy.usage(dispatch.calls, dispatch.traceparent)
        except asyncio.CancelledError:
            _log.warning("stopping before the cost of dispatch %s was known", dispatch.trace_id)
        except Exception:
            _log.exception("the cost of a dispatch could not be learned")
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
        # The line first: who hears "done" may look for it at once.
        written = asyncio.ensure_future(self._log.write(entry))
        await asyncio.wait({written}, timeout=LOG_WAIT_S)
        if remembered:
            await self._history.save(dispatch.session)
        dispatch.tell({"type": "done", **{key: facts[key] for key in FACTS}})

    def _count_cost(self, model: str, tokens_in: int, tokens_out: int, cost: Decimal) -> None:
        self._cost.add(float(cost), {"model": model})
        self._tokens.add(tokens_in, {"model": model, "direction": "input"})
        self._tokens.add(tokens_out, {"model": model, "direction": "output"})
