"""What one container may have the relay do at a time."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from telemetry.services.platform.relay import admission
from telemetry.services.platform.relay.admission import Admission, Refused

MIB = 1 << 20


class Clock:
    """A clock that is advanced by hand."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def limits(clock: Clock) -> Admission:
    return Admission(MIB, clock)


def refusal(limits: Admission, handle: str, size: int) -> tuple[str, int, str]:
    """Reason, status and retry-after of a body of ``size`` bytes."""
    with pytest.raises(Refused) as caught, limits.admit(handle) as lease:
        lease.grow(size)
    return caught.value.reason, caught.value.status, (caught.value.headers or {})["retry-after"]


def test_17th_request_in_flight_is_refused(limits: Admission) -> None:
    with ExitStack() as open_requests:
        for _ in range(16):
            open_requests.enter_context(limits.admit("ann"))
        assert refusal(limits, "ann", 0) == ("requests", 429, "1")
        with limits.admit("bob"):
            pass
    with limits.admit("ann"):
        pass


def test_bytes_held_are_bounded_for_each_container_and_released(limits: Admission) -> None:
    with ExitStack() as open_requests:
        for _ in range(2):
            open_requests.enter_context(limits.admit("ann")).grow(15 * MIB)
        assert refusal(limits, "ann", 2 * MIB + 1) == ("held", 429, "1")
        open_requests.enter_context(limits.admit("bob")).grow(15 * MIB)
        assert limits.held_bytes == 45 * MIB
    assert limits.held_bytes == 0


def test_bytes_held_are_bounded_in_all(limits: Admission) -> None:
    """However many containers there are; an exporter keeps its batch on 503."""
    with ExitStack() as open_requests:
        for number in range(8):
            open_requests.enter_context(limits.admit(f"c{number}")).grow(16 * MIB)
        assert limits.held_bytes == admission.MAX_HELD_BYTES_IN_ALL
        assert refusal(limits, "ann", 1) == ("held_in_all", 503, "5")


def test_too_fast_container_waits_as_long_as_it_was_too_fast(
    limits: Admission, clock: Clock
) -> None:
    for size in (15, 16, 16):
        with limits.admit("ann") as lease:
            lease.grow(size * MIB)
    assert refusal(limits, "ann", 0) == ("rate", 429, "16")
    with limits.admit("bob"):
        pass
    clock.now += 16
    with limits.admit("ann"):
        pass


def test_idle_time_allows_one_burst_only(limits: Admission, clock: Clock) -> None:
    with limits.admit("ann"):
        pass
    clock.now += 86400
    for _ in range(2):
        with limits.admit("ann") as lease:
            lease.grow(16 * MIB)
    assert refusal(limits, "ann", 0)[0] == "rate"


def test_low_rate_still_allows_one_body_of_any_size(clock: Clock) -> None:
    limits = Admission(1024, clock)
    with limits.admit("ann") as lease:
        lease.grow(16 * MIB)


def test_removed_container_is_forgotten_and_its_requests_still_end(limits: Admission) -> None:
    with limits.admit("ann") as lease:
        lease.grow(MIB)
        limits.forget("ann")
        assert limits.handles() == []
    assert limits.held_bytes == 0
