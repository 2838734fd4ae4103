"""Blocking work in a thread, whatever runs the app's coroutines."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def in_thread(call: Callable[..., T], *args: object) -> T:
    """What ``call`` returns for ``args``, from a thread; under asyncio, or trio as hypercorn has
    it. Not by anyio, whose threads are the app's: all may be taken."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        import trio

        return await trio.to_thread.run_sync(call, *args)
    return await asyncio.to_thread(call, *args)
