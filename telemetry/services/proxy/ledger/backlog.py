"""Calls on their way to the ledger, shared by the event loop and the writer's thread."""

from __future__ import annotations

import collections
import queue
import threading
from collections.abc import Iterable
from typing import NamedTuple

from telemetry.services.proxy.ledger.operations import Reserve, Settle

# Most calls in a transaction of the thread; chosen by judgement, not measured.
GROUP = 256

# Put in the queue only to wake the thread.
_NUDGE = threading.Event()


class Taken(NamedTuple):
    """What the thread has taken from the queue.

    Args:
        reserves: calls that want to begin, at most a group.
        stopping: whether to end once this is written.
        marks: to be set once this is written.
    """

    reserves: list[Reserve]
    stopping: bool
    marks: list[threading.Event]


class Backlog:
    """Calls to write.

    The event loop and the thread both take from the settles; reservations that the event loop
    leaves to the thread go through a queue.

    Attributes:
        lock: held while a transaction takes from the settles and gives out ids.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._queue: queue.SimpleQueue[Reserve | threading.Event | None] = queue.SimpleQueue()
        self._settles: collections.deque[Settle] = collections.deque()

    def add_settle(self, settle: Settle) -> None:
        """Keep a call that has ended until it is taken."""
        self._settles.append(settle)

    def take_settles(self) -> list[Settle]:
        """The calls to settle; the lock must be held."""
        return [self._settles.popleft() for _ in range(len(self._settles))]

    def put_back(self, settles: list[Settle]) -> None:
        """Return calls that could not be settled, to be taken first next time."""
        self._settles.extendleft(reversed(settles))

    @property
    def has_settles(self) -> bool:
        """Whether a call waits to be settled."""
        return bool(self._settles)

    @property
    def is_queued(self) -> bool:
        """Whether anything waits for the thread."""
        return not self._queue.empty()

    def leave(self, reserves: Iterable[Reserve]) -> None:
        """Leave calls to the thread."""
        for reserve in reserves:
            self._queue.put(reserve)

    def wake(self) -> None:
        """Have the thread look at the settles."""
        self._queue.put(_NUDGE)

    def mark(self) -> threading.Event:
        """An event that the thread sets once all that was queued before is written."""
        mark = threading.Event()
        self._queue.put(mark)
        return mark

    def stop(self) -> None:
        """Have the thread end once all that was queued before is written."""
        self._queue.put(None)

    def take(self, wait_s: float) -> Taken:
        """What has queued up; waits for the first of it."""
        reserves: list[Reserve] = []
        marks: list[threading.Event] = []
        try:
            item = self._queue.get(timeout=wait_s) if wait_s else self._queue.get_nowait()
            while True:
                if item is None:
                    return Taken(reserves, True, marks)
                if isinstance(item, Reserve):
                    reserves.append(item)
                elif item is not _NUDGE:
                    marks.append(item)
                if len(reserves) >= GROUP:
                    return Taken(reserves, False, marks)
                item = self._queue.get_nowait()
        except queue.Empty:
            return Taken(reserves, False, marks)
