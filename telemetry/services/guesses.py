"""Slow down the guessing of tokens: for each client address, and for all together."""

from __future__ import annotations

import ipaddress
import math
import time
from collections.abc import Callable

# Wrong tokens in a row, and the time after which one more is allowed. Chosen by judgement, not
# measured: enough for a person who pastes the wrong one, too few to try many.
ADDRESS_BURST, ADDRESS_INTERVAL_S = 30, 6.0
TOTAL_BURST, TOTAL_INTERVAL_S = 300, 0.6
MAX_ADDRESSES = 10_000


class Guesses:
    """Counts wrong tokens, as token buckets.

    Beyond the total limit, an address that has sent a wrong token lately must wait; others still
    have one try, so that the owner gets in during an attack from many addresses.

    Args:
        clock: returns the time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # When each bucket will be full again.
        self._full_at: dict[str, float] = {}
        self._total_full_at = 0.0

    def wait_s(self, address: str) -> int:
        """Return the seconds until an address may send a token again; 0 if it may now."""
        now = self._clock()
        missing_s = self._full_at.get(_network(address), now) - now
        wait_s = missing_s - (ADDRESS_BURST - 1) * ADDRESS_INTERVAL_S
        total_s = self._total_full_at - now - (TOTAL_BURST - 1) * TOTAL_INTERVAL_S
        if missing_s > 0 and total_s > 0:
            wait_s = max(wait_s, missing_s)
        return max(0, math.ceil(wait_s))

    def wrong(self, address: str) -> None:
        """Count a wrong token."""
        now, network = self._clock(), _network(address)
        full_at = max(now, self._full_at.pop(network, now)) + ADDRESS_INTERVAL_S
        if len(self._full_at) >= MAX_ADDRESSES:
            self._full_at = {key: at for key, at in self._full_at.items() if at > now}
        if len(self._full_at) >= MAX_ADDRESSES:
            del self._full_at[next(iter(self._full_at))]  # the one that was wrong longest ago
        self._full_at[network] = full_at
        self._total_full_at = max(now, self._total_full_at) + TOTAL_INTERVAL_S


def _network(address: str) -> str:
    """Return an IPv4 address as it is, an IPv6 address as its /64, which is one client's."""
    if ":" not in address:
        return address
    try:
        return str(ipaddress.ip_network((address.partition("%")[0], 64), strict=False))
    except ValueError:
        return address
