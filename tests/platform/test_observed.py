"""What is shown of containers where several threads ask Docker at once."""

from __future__ import annotations

from dataclasses import replace

from telemetry.services.platform.state.observed import Containers, ContainerState


def test_an_earlier_answer_never_hides_a_later_one() -> None:
    view = Containers()
    assert view.put(ContainerState("ann", "1", state="running", pid=7), asked_at=2.0)
    assert not view.put(ContainerState("ann", "1", state="created"), asked_at=1.0)
    assert view.all() == [ContainerState("ann", "1", state="running", pid=7)]
    assert view.put(ContainerState("ann", "1", state="exited"), asked_at=3.0)
    assert view.all() == [ContainerState("ann", "1", state="exited")]


def test_another_container_of_the_handle_is_another_matter() -> None:
    view = Containers()
    view.put(ContainerState("ann", "1"), asked_at=2.0)
    assert view.put(ContainerState("ann", "2"), asked_at=1.0)
    view.drop("ann", "2")
    assert view.put(ContainerState("ann", "1"), asked_at=0.5)


def test_a_removed_container_never_comes_back() -> None:
    """Somebody asked while it was being removed, and is late."""
    view = Containers()
    view.put(ContainerState("ann", "1", state="running", pid=7), asked_at=1.0)
    view.drop("ann", "1")
    assert not view.put(ContainerState("ann", "1", state="exited"), asked_at=2.0)
    view.put(ContainerState("ann", "2", state="running", pid=8), asked_at=3.0)
    assert not view.put(ContainerState("ann", "1", state="exited"), asked_at=4.0)
    view.drop("ann", "1")
    assert [state.id for state in view.all()] == ["2"]


def test_samples_stay_for_as_long_as_the_run_does() -> None:
    view = Containers()
    running = ContainerState("ann", "1", state="running", pid=7, started_at="then")
    view.put(running, asked_at=1.0)
    view.sample(running, memory_bytes=904_000, cpu_percent=1.5)
    view.put(replace(running, health="healthy"), asked_at=2.0)
    (state,) = view.all()
    assert (state.health, state.memory_bytes, state.cpu_percent) == ("healthy", 904_000, 1.5)
    view.put(replace(running, started_at="now"), asked_at=3.0)
    (state,) = view.all()
    assert (state.memory_bytes, state.cpu_percent) == (None, None)
