"""Several containers with one handle: which one is shown, and its desired state."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.fixtures.docker import DockerEngine
from tests.fixtures.stack import until
from tests.platform.monitored import Monitored, monitored

pytestmark = pytest.mark.docker


@pytest.fixture
def watch(empty_docker: DockerEngine) -> Iterator[Monitored]:
    with monitored(empty_docker) as found:
        yield found


def ends(watch: Monitored, container: Any, action: str) -> None:
    """Wait until the observed state has a container's latest event."""
    done = (container.id, action)
    until(lambda: done in [(event.id, event.action) for event in watch.events], what=action)


def test_first_of_two_containers_with_one_handle_is_shown(watch: Monitored) -> None:
    """A `docker compose run` container also has the labels of its service; if it were shown, the
    service would be down when it ends."""
    main = watch.run("ann", name="main")
    done = watch.docker.run("ann", "true", name="done")
    ends(watch, done, "die")
    assert (watch.shown("ann"), watch.up("ann")) == (main.id, 1)
    stopped = watch.docker.run("ann", name="stopped")
    stopped.stop(timeout=0)
    ends(watch, stopped, "stop")
    stopped.remove()
    ends(watch, stopped, "destroy")
    assert (watch.shown("ann"), watch.up("ann")) == (main.id, 1)
    runs = watch.docker.run("ann", name="runs")
    ends(watch, runs, "start")
    main.kill()
    watch.wait_up("ann", 0)
    runs.pause()  # its other events do not hide a crash
    ends(watch, runs, "pause")
    assert (watch.shown("ann"), watch.up("ann")) == (main.id, 0)
    main.remove()
    until(lambda: watch.shown("ann") == runs.id)
    watch.wait_up("ann", 1)


def test_next_version_is_shown_when_the_last_is_stopped(watch: Monitored) -> None:
    blue = watch.run("ann", name="blue")
    green = watch.docker.run("ann", name="green")
    ends(watch, green, "start")
    blue.stop()
    ends(watch, blue, "stop")
    assert (watch.shown("ann"), watch.up("ann")) == (green.id, 1)
    assert [up for handle, up in watch.ups if handle == "ann"][-1] == 1
    assert not {("ann", 0), ("ann", None)} & set(watch.ups[watch.ups.index(("ann", 1)) :])
    green.kill()
    watch.wait_up("ann", 0)
    red = watch.docker.run("ann", name="red")
    watch.wait_up("ann", 1)
    assert watch.shown("ann") == red.id
    red.stop()
    watch.wait_up("ann", None)


def test_restarted_service_is_shown_again_beside_a_one_off(watch: Monitored) -> None:
    main = watch.run("ann", name="main")
    one_off = watch.docker.run("ann", name="one-off")
    ends(watch, one_off, "start")
    main.restart()
    ends(watch, main, "restart")
    assert watch.shown("ann") == main.id
    one_off.kill()
    ends(watch, one_off, "die")
    assert (watch.shown("ann"), watch.up("ann")) == (main.id, 1)


def test_first_container_is_shown_after_a_restart_and_a_lost_stream(
    empty_docker: DockerEngine,
) -> None:
    main = empty_docker.run("ann", name="main")
    others = [empty_docker.run("ann", name=f"one-off-{number}") for number in range(4)]
    with monitored(empty_docker) as watch:
        watch.wait_up("ann", 1)
        assert watch.shown("ann") == main.id
        stream = watch.monitor.watcher._stream
        connect, held = stream._follow, []

        def crashes_meanwhile() -> None:
            if not held:
                held.append(True)
                main.kill()
            connect()

        stream._follow = crashes_meanwhile  # type: ignore[method-assign]
        watch.monitor.watcher.reconnect()
        watch.wait_up("ann", 0)
        assert watch.shown("ann") == main.id
        for other in others:
            other.remove(force=True)
        ends(watch, others[-1], "destroy")
        assert (watch.shown("ann"), watch.up("ann")) == (main.id, 0)
