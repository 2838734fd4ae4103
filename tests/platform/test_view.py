"""What is shown of containers where several threads ask Docker at once."""

from __future__ import annotations

from telemetry.services.platform.view import Containers, ContainerState


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
