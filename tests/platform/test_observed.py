"""The observed state if several threads ask Docker at the same time."""

from __future__ import annotations

from dataclasses import replace

from telemetry.services.platform.state.observed import ContainerState, ObservedState


def test_earlier_answer_does_not_replace_a_later_one() -> None:
    observed = ObservedState()
    assert observed.update(ContainerState("ann", "1", state="running", pid=7), asked_at=2.0)
    assert not observed.update(ContainerState("ann", "1", state="created"), asked_at=1.0)
    assert observed.all() == [ContainerState("ann", "1", state="running", pid=7)]
    assert observed.update(ContainerState("ann", "1", state="exited"), asked_at=3.0)
    assert observed.all() == [ContainerState("ann", "1", state="exited")]


def test_other_container_of_the_handle_replaces_the_state() -> None:
    observed = ObservedState()
    observed.update(ContainerState("ann", "1"), asked_at=2.0)
    assert observed.update(ContainerState("ann", "2"), asked_at=1.0)
    observed.remove("ann", "2")
    assert observed.update(ContainerState("ann", "1"), asked_at=0.5)


def test_removed_container_never_comes_back() -> None:
    """A late answer from a request made while it was being removed."""
    observed = ObservedState()
    observed.update(ContainerState("ann", "1", state="running", pid=7), asked_at=1.0)
    observed.remove("ann", "1")
    assert not observed.update(ContainerState("ann", "1", state="exited"), asked_at=2.0)
    observed.update(ContainerState("ann", "2", state="running", pid=8), asked_at=3.0)
    assert not observed.update(ContainerState("ann", "1", state="exited"), asked_at=4.0)
    observed.remove("ann", "1")
    assert [state.id for state in observed.all()] == ["2"]


def test_samples_are_kept_for_the_same_run() -> None:
    observed = ObservedState()
    running = ContainerState("ann", "1", state="running", pid=7, started_at="then")
    observed.update(running, asked_at=1.0)
    observed.update_sample(running, memory_bytes=904_000, cpu_percent=1.5)
    observed.update(replace(running, health="healthy"), asked_at=2.0)
    (state,) = observed.all()
    assert (state.health, state.memory_bytes, state.cpu_percent) == ("healthy", 904_000, 1.5)
    observed.update(replace(running, started_at="now"), asked_at=3.0)
    (state,) = observed.all()
    assert (state.memory_bytes, state.cpu_percent) == (None, None)
