"""The watcher on a real engine: kills, stops, OOM, health, removal, lost streams, restarts."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from telemetry.services.platform.sampling import reconciler
from telemetry.services.platform.sampling.observer import Observer
from telemetry.services.platform.sampling.watcher import EXPORT_INTERVAL_S
from telemetry.services.platform.state.desired import ContainerEvent
from telemetry.system.docker_engine import EngineAbsent
from tests.fixtures.docker import DockerEngine
from tests.fixtures.stack import until
from tests.platform.monitored import Memory, Monitored, monitored

pytestmark = pytest.mark.docker

GREEDY = "x=0123456789; while true; do x=$x$x; done"


@pytest.fixture
def watch(empty_docker: DockerEngine) -> Iterator[Monitored]:
    with monitored(empty_docker) as found:
        yield found


def test_killed_container_is_down_and_up_after_a_start(watch: Monitored) -> None:
    container = watch.run("ann")
    container.kill()
    watch.wait_up("ann", 0)
    assert watch.state("ann").state == "exited"
    assert watch.state("ann").exit_code == 137
    watch.wait_statuses(exited=1, running=0)
    until(lambda: [e.exit_code for e in watch.events if e.action == "die"] == [137])
    container.start()
    watch.wait_up("ann", 1)
    assert watch.value("restarts_total", "ann") == 0  # a user started it
    assert watch.actions("ann") == ["create", "start", "kill", "die", "start"]


def test_exited_container_is_down(watch: Monitored) -> None:
    watch.docker.run("ann", "false")
    watch.wait_up("ann", 0)
    assert watch.state("ann").exit_code == 1


def test_stop_ends_the_series_without_showing_down(watch: Monitored) -> None:
    container = watch.run("ann")
    container.stop()
    watch.wait_up("ann", None)
    assert ("ann", 0) not in watch.ups
    until(lambda: watch.value("memory_bytes", "ann") is None)
    container.start()
    watch.wait_up("ann", 1)
    container.restart()
    until(lambda: watch.actions("ann").count("start") == 3)
    watch.wait_up("ann", 1)
    assert ("ann", 0) not in watch.ups
    assert watch.value("restarts_total", "ann") == 0


def test_removed_container_leaves_no_series(watch: Monitored) -> None:
    container = watch.run("ann")
    assert watch.monitor.sampler.collect_once() == 1
    container.remove(force=True)
    until(lambda: watch.observed.get("ann") is None)
    until(lambda: not watch.series_of("ann"))
    watch.wait_statuses(running=0)
    # The same handle again: it starts without values of the old container.
    watch.run("ann")
    assert watch.value("restarts_total", "ann") == 0


def test_slow_removal_does_not_show_down(watch: Monitored, monkeypatch: pytest.MonkeyPatch) -> None:
    """Docker reports `die` first, and then removes its files."""
    monkeypatch.setattr(reconciler, "STOP_WAIT_S", 30.0)  # for any slow disk
    script = "for i in $(seq 3000); do : > /tmp/$i; done; touch /tmp/made; sleep 3600"
    containers = [watch.docker.run(f"user-{n}", "sh", "-c", script) for n in range(3)]
    for container in containers:
        until(lambda c=container: c.exec_run("test -e /tmp/made").exit_code == 0)
        container.remove(force=True)
    for number in range(3):
        watch.wait_up(f"user-{number}", None)
        assert (f"user-{number}", 0) not in watch.ups


def test_oom_kill_is_counted_once_also_after_a_start(watch: Monitored) -> None:
    container = watch.docker.run("ann", "sh", "-c", GREEDY, mem_limit="24m")
    watch.wait_up("ann", 0)
    until(lambda: watch.state("ann").oom_killed)
    until(lambda: watch.value("oom_kills_total", "ann") == 1)
    until(lambda: "oom" in watch.actions("ann"))
    container.start()
    until(lambda: watch.actions("ann").count("die") == 2)
    until(lambda: watch.value("oom_kills_total", "ann") == 2)


def test_oom_kill_of_a_child_is_counted_while_the_container_runs(
    watch: Monitored,
) -> None:
    script = f"sh -c '{GREEDY}'; sh -c '{GREEDY}'; sleep 3600"
    watch.docker.run("ann", "sh", "-c", script, mem_limit="24m")
    until(lambda: watch.value("oom_kills_total", "ann") == 2)
    watch.monitor.sampler.collect_once()  # the kernel's own count adds nothing
    assert watch.value("oom_kills_total", "ann") == 2
    assert watch.up("ann") == 1


def test_restarts_by_policy_are_counted(watch: Monitored) -> None:
    policy = {"Name": "on-failure", "MaximumRetryCount": 3}
    watch.docker.run("ann", "sh", "-c", "sleep 0.1; exit 3", restart_policy=policy)
    until(lambda: watch.observed.get("ann") and watch.state("ann").state == "exited")
    watch.wait_up("ann", 0)
    until(lambda: watch.value("restarts_total", "ann") == 3)
    watch.docker.client.containers.get("ann").start()  # Docker's own count starts again from 0
    until(lambda: watch.value("restarts_total", "ann") == 6)


def test_health_changes_are_exported(watch: Monitored) -> None:
    check = {
        "test": ["CMD", "test", "-e", "/tmp/well"],
        "interval": 10**9,
        "retries": 1,
        "start_period": 3600 * 10**9,  # `starting` until it is healthy for the first time
    }
    container = watch.run("ann", healthcheck=check)
    assert watch.value("healthy", "ann") is None  # not known yet
    container.exec_run("touch /tmp/well")
    until(lambda: watch.value("healthy", "ann") == 1)
    container.exec_run("rm /tmp/well")
    until(lambda: watch.value("healthy", "ann") == 0)
    assert watch.state("ann").health == "unhealthy"
    assert [e.detail for e in watch.events if e.action == "health_status"] == [
        "healthy",
        "unhealthy",
    ]
    container.kill()
    until(lambda: watch.value("healthy", "ann") is None)


def test_running_containers_are_adopted_at_start(empty_docker: DockerEngine) -> None:
    empty_docker.run("ann")
    empty_docker.client.containers.run("busybox:stable", ["sleep", "3600"], detach=True)
    with monitored(empty_docker) as watch:
        watch.wait_up("ann", 1)
        assert [state.handle for state in watch.observed.all()] == ["ann"]
        watch.wait_statuses(running=1, dead=0)


def test_totals_continue_after_a_restart_of_the_watcher(empty_docker: DockerEngine) -> None:
    desired = Memory()
    with monitored(empty_docker, desired) as before:
        script = f"sh -c '{GREEDY}'; sleep 3600"
        empty_docker.run("ann", "sh", "-c", script, mem_limit="24m")
        until(lambda: before.value("oom_kills_total", "ann") == 1)
    with monitored(empty_docker, desired) as after:
        after.wait_up("ann", 1)
        after.monitor.sampler.collect_once()
        assert after.value("oom_kills_total", "ann") == 1


def test_container_that_ended_unobserved_is_down_if_killed_and_absent_if_stopped(
    empty_docker: DockerEngine,
) -> None:
    desired = Memory()
    with monitored(empty_docker, desired) as before:
        killed, stopped = before.run("ann"), before.run("bob")
    killed.kill()
    stopped.stop()
    with monitored(empty_docker, desired) as after:
        after.wait_up("ann", 0)
        until(lambda: after.observed.get("bob") is not None)
        assert after.up("bob") is None
        assert desired.wants == {"ann"}


def test_lost_stream_misses_no_event(watch: Monitored) -> None:
    ann, bob, cid = (watch.run(handle) for handle in ("ann", "bob", "cid"))
    stream = watch.monitor.watcher._stream
    connect, held = stream._follow, []

    def happens_meanwhile() -> None:
        if not held:
            held.append(True)
            ann.kill()
            bob.stop(timeout=0)
            bob.start()
            cid.remove(force=True)
            watch.docker.run("dan", "sh", "-c", GREEDY, mem_limit="24m").wait()
        connect()

    stream._follow = happens_meanwhile  # type: ignore[method-assign]
    watch.monitor.watcher.reconnect()
    watch.wait_up("ann", 0)
    watch.wait_up("cid", None)
    watch.wait_up("dan", 0)
    assert watch.up("bob") == 1
    until(lambda: watch.value("oom_kills_total", "dan") == 1)  # the last that was missed
    until(lambda: "die" in watch.actions("dan"))
    assert watch.actions("ann") == ["create", "start", "kill", "die"]
    of_bob = [action for action in watch.actions("bob") if action != "kill"]
    assert of_bob == ["create", "start", "die", "stop", "start"]
    assert watch.actions("cid")[-2:] == ["die", "destroy"]
    assert watch.value("oom_kills_total", "dan") == 1


def test_stop_during_a_lost_stream_is_still_a_stop(
    watch: Monitored, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconciler, "STOP_WAIT_S", 30.0)  # for any slow engine
    container = watch.run("ann")
    running = watch.monitor.watcher._reconciler
    notify = running._notify

    def cut(events: list[ContainerEvent]) -> None:
        if any(event.action == "die" for event in events):
            watch.monitor.watcher.reconnect()
        notify(events)

    running._notify = cut  # type: ignore[method-assign,assignment]
    container.stop()
    watch.wait_up("ann", None)
    assert ("ann", 0) not in watch.ups


@pytest.mark.parametrize("last", ["die", "start"])
def test_event_reported_before_the_engine_went_down_is_not_repeated(
    watch: Monitored, last: str
) -> None:
    container = watch.run("ann")
    running = watch.monitor.watcher._reconciler
    apply_events, observer = running.apply_events, running._observer

    def absent(*_: Any) -> Any:
        raise EngineAbsent("gone before it could be inspected")

    def apply_without_inspect(raw: Any, connected: Any) -> dict[str, float]:
        raw = list(raw)
        if {"kill", last} & {each["Action"] for each in raw}:
            observer.inspect = absent  # type: ignore[method-assign]
        try:
            return apply_events(raw, connected)
        finally:
            observer.inspect = partial(Observer.inspect, observer)  # type: ignore[method-assign]

    running.apply_events = apply_without_inspect  # type: ignore[method-assign]
    container.kill()
    watch.wait_up("ann", 0)
    if last == "start":
        container.start()
        watch.wait_up("ann", 1)
    told = ["create", "start", "kill", "die", "start"]
    assert watch.actions("ann") == told[: len(told) - (last == "die")]


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL])
def test_watcher_survives_a_restart_of_the_daemon(watch: Monitored, signum: signal.Signals) -> None:
    watch.run("ann")
    watch.run("bob", restart_policy={"Name": "always"})
    watch.docker.restart(signum)
    # The desired state of containers that the daemon took down does not change.
    watch.wait_up("ann", 0)
    watch.wait_up("bob", 1)
    until(lambda: watch.actions("bob").count("start") == 2)
    watch.run("cid").kill()
    watch.wait_up("cid", 0)


def test_containers_are_down_if_the_daemon_stays_down(
    docker_engine: DockerEngine,
) -> None:
    """As after `systemctl stop docker`: no events arrive, but the containers are gone."""
    try:
        with monitored(docker_engine) as watch:
            watch.run("ann")
            watch.run("bob", restart_policy={"Name": "always"})
            watch.monitor.sampler.collect_once()
            docker_engine.stop(signal.SIGTERM)
            until(lambda: watch.monitor.sampler.collect_once() == 0)
            for handle in ("ann", "bob"):
                watch.wait_up(handle, 0)
                assert watch.value("memory_bytes", handle) is None
                assert watch.state(handle).state == "dead"
                assert watch.actions(handle).count("die") == 1
            watch.wait_statuses(dead=2, running=0)
            docker_engine.start()
            watch.wait_up("bob", 1)
            until(lambda: watch.state("ann").state == "exited")
            assert watch.up("ann") == 0
            assert watch.actions("ann").count("die") == 1
            assert watch.value("restarts_total", "bob") == 0
    finally:
        docker_engine.clear()


def test_container_that_outlives_its_daemon_is_up(docker_engine: DockerEngine) -> None:
    """As with `live-restore`, or after the daemon was killed."""
    try:
        with monitored(docker_engine) as watch:
            watch.run("ann")
            watch.monitor.sampler.collect_once()
            docker_engine.stop(signal.SIGKILL)
            watch.monitor.reconcile("ann")
            assert watch.monitor.sampler.collect_once() == 1
            until(lambda: watch.monitor.watcher._queue.empty())
            assert watch.up("ann") == 1
            assert watch.state("ann").state == "running"
            docker_engine.start()
            # The new daemon stops the containers it finds; no user asked for that.
            watch.wait_up("ann", 0)
            watch.run("bob")
            assert watch.up("ann") == 0
    finally:
        docker_engine.clear()


def test_engine_that_starts_late_is_found(docker_engine: DockerEngine) -> None:
    docker_engine.stop()
    try:
        with monitored(docker_engine, connected=False) as watch:
            docker_engine.start()
            watch.run("ann")
    finally:
        docker_engine.clear()


def test_burst_of_events_is_exported_at_once_and_then_batched(watch: Monitored) -> None:
    exports = watch.exports
    for number in range(10):
        watch.docker.run(f"user-{number}")
    watch.wait_up("user-9", 1)
    until(lambda: watch.monitor.watcher._export_due is None)
    assert 1 <= watch.exports - exports <= 30
    containers = watch.docker.client.containers.list()
    exports, began = watch.exports, time.monotonic()
    for container in containers:
        container.kill()
    for number in range(10):
        watch.wait_up(f"user-{number}", 0)
    assert watch.exports - exports <= 2 + (time.monotonic() - began) / EXPORT_INTERVAL_S


def test_change_of_desired_state_updates_the_series(watch: Monitored) -> None:
    watch.run("ann").kill()
    watch.wait_up("ann", 0)
    watch.desired.stopped("ann")
    watch.monitor.reconcile("ann")
    watch.wait_up("ann", None)
