"""Wrong tokens: the limits for one address and for all, and their memory."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from telemetry.services.guesses import (
    ADDRESS_BURST,
    ADDRESS_INTERVAL_S,
    MAX_ADDRESSES,
    TOTAL_BURST,
    Guesses,
)


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_address_waits_after_too_many_wrong_tokens_and_then_has_one_more(clock: Clock) -> None:
    guesses = Guesses(clock)
    for _ in range(ADDRESS_BURST):
        assert guesses.wait_s("192.0.2.1") == 0
        guesses.wrong("192.0.2.1")
    assert 0 < guesses.wait_s("192.0.2.1") <= ADDRESS_INTERVAL_S
    assert guesses.wait_s("192.0.2.2") == 0
    clock.now += guesses.wait_s("192.0.2.1")
    assert guesses.wait_s("192.0.2.1") == 0
    guesses.wrong("192.0.2.1")
    assert guesses.wait_s("192.0.2.1") > 0
    clock.now += ADDRESS_BURST * ADDRESS_INTERVAL_S
    for _ in range(ADDRESS_BURST):
        guesses.wrong("192.0.2.1")
    assert guesses.wait_s("192.0.2.1") > 0


def test_many_addresses_have_one_guess_each_and_the_owner_still_gets_in(clock: Clock) -> None:
    guesses = Guesses(clock)
    for n in range(TOTAL_BURST):
        guesses.wrong(f"192.0.2.{n % 250}")
    assert guesses.wait_s("198.51.100.1") == 0, "a new address has one guess"
    guesses.wrong("198.51.100.1")
    assert guesses.wait_s("198.51.100.1") > 0
    assert guesses.wait_s("203.0.113.1") == 0, "the owner's"


def test_addresses_of_one_ipv6_network_are_one_client(clock: Clock) -> None:
    guesses = Guesses(clock)
    for n in range(ADDRESS_BURST):
        guesses.wrong(f"2001:db8::{n:x}")
    assert guesses.wait_s("2001:db8::ffff") > 0
    assert guesses.wait_s("2001:db8:0:1::1") == 0
    assert guesses.wait_s("not:an:address") == guesses.wait_s("") == 0


def test_memory_is_bounded(clock: Clock) -> None:
    guesses = Guesses(clock)
    for n in range(MAX_ADDRESSES + 100):
        guesses.wrong(f"client-{n}")
    assert len(guesses._full_at) == MAX_ADDRESSES
    clock.now += ADDRESS_INTERVAL_S + 1
    guesses.wrong("client")
    assert len(guesses._full_at) == 1
