"""Notice that a streaming client disconnected, and limit how long the upstream may continue."""

from __future__ import annotations

import asyncio
from types import TracebackType

from starlette.types import Receive


class ClientWatch:
    """Wait for the client to disconnect while entered, then bring ``deadline`` forward.

    Args:
        receive: the request's, after its body was read.
        deadline: set to ``limit_s`` from now when the client disconnects.
        limit_s: how long the upstream may continue then.
    """

    def __init__(self, receive: Receive, deadline: asyncio.Timeout, limit_s: float) -> None:
        self._receive = receive
        self._deadline = deadline
        self._limit_s = limit_s

        self.gone = False

    async def __aenter__(self) -> ClientWatch:
        self._task = asyncio.create_task(self._wait())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._task.cancel()

    async def _wait(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.gone = True
        self._deadline.reschedule(asyncio.get_running_loop().time() + self._limit_s)
