"""What one container may have the relay do at a time: requests, bytes held, bytes per second."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

from telemetry.services.http import HTTPError

# All chosen by judgement, not measured. An SDK has one request of each signal in flight.
MAX_REQUESTS = 16
MAX_BODY_BYTES = 16 << 20
MAX_HELD_BYTES = 32 << 20  # of one container
MAX_HELD_BYTES_IN_ALL = 128 << 20
BURST_S = 32  # seconds' worth of bytes that may come at once


Reason = Literal["requests", "rate", "size", "held", "held_in_all", "time"]


class Refused(HTTPError):
    """Telemetry that the relay does not take from a container, now or at all.

    Args:
        reason: what it exceeds; the metric's attribute.
        status: HTTP status of the reply; an OTLP exporter tries again after 429 and 503.
        message: what is wrong.
        remedy: what to do about it.
        retry_after_s: seconds until a retry can succeed; 0 for a status without a retry.
    """

    def __init__(
        self, reason: Reason, status: int, message: str, remedy: str, retry_after_s: int = 0
    ) -> None:
        headers = {"retry-after": str(retry_after_s)} if retry_after_s else None
        super().__init__(status, message, remedy, headers)
        self.reason = reason


class _Account:
    """What one container has used.

    Args:
        allowance: bytes that it may send now; negative if it sent more.
        at: when that was, monotonic seconds.
    """

    def __init__(self, allowance: float, at: float) -> None:
        self.requests = 0
        self.held_bytes = 0
        self.allowance = allowance
        self.at = at


class Lease:
    """One request's share of the limits.

    Args:
        admission: the limits.
        account: the container's.
    """

    def __init__(self, admission: Admission, account: _Account) -> None:
        self._admission = admission
        self._account = account
        self.bytes = 0

    def grow(self, size: int) -> None:
        """Hold ``size`` more bytes of the request's body, uncompressed.

        Raises:
            Refused: they are too many.
        """
        self.bytes += size
        self._account.allowance -= size
        self._account.held_bytes += size
        self._admission.held_bytes += size
        if self.bytes > MAX_BODY_BYTES:
            raise Refused(
                "size",
                413,
                f"the body is larger than {MAX_BODY_BYTES} bytes, uncompressed",
                "send less at once",
            )
        if self._account.held_bytes > MAX_HELD_BYTES:
            raise Refused(
                "held",
                429,
                f"this container's requests in flight hold over {MAX_HELD_BYTES} bytes",
                "send less at the same time",
                retry_after_s=1,
            )
        if self._admission.held_bytes > MAX_HELD_BYTES_IN_ALL:
            raise Refused(
                "held_in_all",
                503,
                f"all containers' requests in flight hold over {MAX_HELD_BYTES_IN_ALL} bytes",
                "try again",
                retry_after_s=5,
            )


class Admission:
    """The limits, for all containers. Not thread-safe: for one event loop.

    Args:
        bytes_per_s: uncompressed bytes per second that a container may send on average.
        clock: monotonic seconds.
    """

    def __init__(self, bytes_per_s: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._bytes_per_s = bytes_per_s
        # So that a single body of any allowed size is no burst.
        self._burst = max(bytes_per_s * BURST_S, MAX_BODY_BYTES)
        self._clock = clock
        self._accounts: dict[str, _Account] = {}
        self.held_bytes = 0

    @contextmanager
    def admit(self, handle: str) -> Iterator[Lease]:
        """Let one request of a container in.

        Raises:
            Refused: it has too many in flight, or has sent too much.
        """
        now = self._clock()
        account = self._accounts.setdefault(handle, _Account(self._burst, now))
        grown = account.allowance + (now - account.at) * self._bytes_per_s
        account.allowance, account.at = min(self._burst, grown), now
        if account.requests >= MAX_REQUESTS:
            raise Refused(
                "requests",
                429,
                f"this container has {MAX_REQUESTS} requests in flight",
                "wait for their answers, or send more in each",
                retry_after_s=1,
            )
        if account.allowance <= 0:
            raise Refused(
                "rate",
                429,
                f"this container sends more than {self._bytes_per_s} bytes per second",
                "send less, or raise TELEMETRY_PLATFORM_RELAY_RATE",
                retry_after_s=math.ceil(1 - account.allowance / self._bytes_per_s),
            )
        account.requests += 1
        lease = Lease(self, account)
        try:
            yield lease
        finally:
            account.requests -= 1
            account.held_bytes -= lease.bytes
            self.held_bytes -= lease.bytes

    def handles(self) -> list[str]:
        """Return the containers that sent something."""
        return list(self._accounts)

    def forget(self, handle: str) -> None:
        """Forget a container that is gone; requests in flight still end properly."""
        self._accounts.pop(handle, None)
