"""The dispatcher with test kernels: order, limits, cancellation, stop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from telemetry import testing
from telemetry.services.gateway.dispatch import Dispatch
from telemetry.services.gateway.dispatcher import Dispatcher, QueueFull
from telemetry.services.gateway.history import History
from telemetry.services.gateway.interaction_log import InteractionLog
from telemetry.services.gateway.kernel import Event, KernelError, Request, Text
from telemetry.services.gateway.proxy_client import ProxyClient
from telemetry.services.gateway.settings import Settings
from tests.gateway.conftest import SECRETS


class Gated:
    """A kernel that answers a prompt once its gate is open; records requests and ends."""

    def __init__(self) -> None:
        self.asked: list[Request] = []
        self.ended: list[str] = []
        self.gates: dict[str, asyncio.Event] = {}
        self.running = self.most = 0

    def open(self, *prompts: str) -> None:
        for prompt in prompts:
            self.gates.setdefault(prompt, asyncio.Event()).set()

    async def run(self, request: Request) -> AsyncGenerator[Event, None]:
        self.asked.append(request)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            yield Text("so ")
            await self.gates.setdefault(request.prompt, asyncio.Event()).wait()
            if "fail" in request.prompt:
                raise KernelError("it would not")
            if "crash" in request.prompt:
                raise ZeroDivisionError
            yield Text(request.prompt)
        finally:
            self.running -= 1
            self.ended.append(request.prompt)

    async def close(self) -> None:
        pass


@pytest.fixture
def recorded() -> Iterator[testing.Recorded]:
    with testing.isolated() as recorded:
        yield recorded


@pytest.fixture
def kernel() -> Gated:
    return Gated()


Make = Callable[..., Dispatcher]


@pytest.fixture
def make(kernel: Gated, tmp_path: Path, recorded: testing.Recorded) -> Make:
    def dispatcher(queue_limit: int = 10, concurrency: int = 2) -> Dispatcher:
        settings = Settings.from_env({"TELEMETRY_HOME": str(tmp_path), **SECRETS})
        return Dispatcher(
            kernel,
            ProxyClient(settings),
            InteractionLog(tmp_path / "logs"),
            History(tmp_path / "sessions"),
            model="m",
            queue_limit=queue_limit,
            concurrency=concurrency,
        )

    return dispatcher


def submit(dispatcher: Dispatcher, prompt: str, session: str) -> Dispatch:
    dispatch = Dispatch(prompt, "api", session)
    dispatcher.submit(dispatch)
    return dispatch


async def done(dispatch: Dispatch) -> dict[str, Any]:
    """The last event of a dispatch."""
    async with asyncio.timeout(20):
        return [event async for event in dispatch.stream()][-1]


async def settle() -> None:
    """Run all tasks that are ready."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_session_is_answered_in_order_and_sees_earlier_turns(
    make: Make, kernel: Gated
) -> None:
    dispatcher = make()
    one, two = submit(dispatcher, "one", "s"), submit(dispatcher, "two", "s")
    await settle()
    assert [request.prompt for request in kernel.asked] == ["one"], "one at a time"
    kernel.open("one", "two")
    assert (await done(one))["status"] == (await done(two))["status"] == "ok"
    assert kernel.asked[1].history == [("user", "one"), ("assistant", "so one")]


async def test_sessions_run_concurrently_up_to_the_limit(
    make: Make, kernel: Gated, recorded: testing.Recorded
) -> None:
    dispatcher = make(concurrency=2)
    dispatches = [submit(dispatcher, f"p{n}", f"s{n}") for n in range(5)]
    await settle()
    assert kernel.running == 2
    assert recorded.value("gateway_dispatch_queue_depth") == 3
    kernel.open(*(f"p{n}" for n in range(5)))
    assert [(await done(d))["status"] for d in dispatches] == ["ok"] * 5
    assert kernel.most == 2
    assert [request.prompt for request in kernel.asked] == [f"p{n}" for n in range(5)]
    assert recorded.value("gateway_dispatch_queue_depth") == 0


async def test_busy_session_does_not_block_others(make: Make, kernel: Gated) -> None:
    dispatcher = make(queue_limit=2, concurrency=2)
    for n in range(3):
        submit(dispatcher, f"busy{n}", "busy")
    other = submit(dispatcher, "other", "other")  # though the queue is full
    kernel.open("other")
    assert (await done(other))["status"] == "ok"
    with pytest.raises(QueueFull):
        submit(dispatcher, "busy3", "busy")
    kernel.open("busy0", "busy1", "busy2")


async def test_dispatch_cancelled_while_waiting_is_not_answered(
    make: Make, kernel: Gated, recorded: testing.Recorded
) -> None:
    dispatcher = make(concurrency=1)
    running, waiting = submit(dispatcher, "a", "a"), submit(dispatcher, "b", "b")
    dispatcher.cancel(waiting)
    assert (await done(waiting))["status"] == "cancelled"
    assert recorded.value("gateway_dispatch_queue_depth") == 0
    dispatcher.cancel(waiting)  # again: nothing
    kernel.open("a")
    assert (await done(running))["status"] == "ok"
    assert [request.prompt for request in kernel.asked] == ["a"]
    total = "gateway_kernel_dispatch_total"
    assert recorded.value(total, source="api", status="cancelled") == 1
    assert recorded.value(total, source="api", status="ok") == 1


async def test_dispatch_cancelled_while_running_keeps_its_partial_answer(
    make: Make, kernel: Gated
) -> None:
    dispatcher = make(concurrency=1)
    first, second = submit(dispatcher, "first", "s"), submit(dispatcher, "second", "s")
    await settle()
    dispatcher.cancel(first)
    assert (await done(first))["status"] == "cancelled"
    assert kernel.ended == ["first"]
    kernel.open("second")
    assert (await done(second))["status"] == "ok"
    assert kernel.asked[1].history == [("user", "first"), ("assistant", "so ")]


async def test_dispatch_cancelled_before_its_start_frees_its_session(
    make: Make, kernel: Gated
) -> None:
    dispatcher = make(concurrency=1)
    first = submit(dispatcher, "first", "s")
    dispatcher.cancel(first)  # its task was made and has not run yet
    kernel.open("second")
    second = submit(dispatcher, "second", "s")
    assert (await done(first))["status"] == "cancelled"
    assert (await done(second))["status"] == "ok"
    assert [request.prompt for request in kernel.asked] == ["second"]


async def test_failing_kernel_ends_only_its_dispatch(
    make: Make, kernel: Gated, caplog: pytest.LogCaptureFixture
) -> None:
    dispatcher = make()
    kernel.open("fail", "crash", "after")
    ends = [await done(submit(dispatcher, prompt, "s")) for prompt in ("fail", "crash", "after")]
    assert [(end["status"], end["error"]) for end in ends] == [
        ("error", "it would not"),
        ("error", "the kernel failed; see the gateway's log"),
        ("ok", ""),
    ]
    assert "ZeroDivisionError" in caplog.text


async def test_dispatch_can_have_several_readers(make: Make, kernel: Gated) -> None:
    dispatch = submit(make(), "x", "s")
    early = asyncio.create_task(done(dispatch))
    await settle()
    kernel.open("x")
    events = [event async for event in dispatch.stream()]
    assert events[-1] == await early
    assert [event["type"] for event in events] == ["delta", "delta", "end", "done"]
    assert [event async for event in dispatch.stream()] == events, "afterwards too"


async def test_stop_finishes_dispatches_and_rejects_new_ones(make: Make, kernel: Gated) -> None:
    dispatcher = make(concurrency=1)
    running, waiting = submit(dispatcher, "a", "a"), submit(dispatcher, "b", "b")
    closing = asyncio.create_task(dispatcher.close(20))
    await settle()
    with pytest.raises(QueueFull, match="stopping"):
        submit(dispatcher, "late", "late")
    kernel.open("a", "b")
    await closing
    assert [(await done(d))["status"] for d in (running, waiting)] == ["ok", "ok"]


async def test_stop_cancels_dispatches_that_exceed_the_timeout(
    make: Make, kernel: Gated, tmp_path: Path
) -> None:
    dispatcher = make(concurrency=1)
    running, waiting = submit(dispatcher, "a", "a"), submit(dispatcher, "b", "b")
    await settle()
    await dispatcher.close(0.01)
    assert [(await done(d))["status"] for d in (running, waiting)] == ["cancelled"] * 2
    (file,) = (tmp_path / "logs").glob("*.jsonl")
    assert file.read_text().count("\n") == 2, "each is on record"
