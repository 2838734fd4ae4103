"""Blocking work in a thread, under asyncio or trio."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def in_thread(call: Callable[..., T], *args: object) -> T:
    """Run ``call`` in a thread, and return its result. Works under asyncio, and under trio, which
    hypercorn may use.

    Not via anyio: its worker threads belong to the app and may all be busy.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        import trio

        return await trio.to_thread.run_sync(call, *args)
    return await asyncio.to_thread(call, *args)
