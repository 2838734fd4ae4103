"""What a pass of the sampler changes in observed state, series and totals."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from telemetry import testing
from telemetry.services.platform.sampling.kernel_files import KernelFiles
from telemetry.services.platform.sampling.metrics import STATUSES, ContainerSeries
from telemetry.services.platform.sampling.sampler import Sampler
from telemetry.services.platform.sampling.totals import TotalsCounter
from telemetry.services.platform.state.desired import Totals
from telemetry.services.platform.state.observed import ContainerState, ObservedState
from telemetry.system.docker_engine import Engine
from tests.fixtures.stack import until
from tests.platform.monitored import Memory
from tests.platform.trees import Tree

SECOND = 10**9
YEARS_AGO_NS = SECOND


class Sampled:
    """A sampler of prepared files, with a fixed clock.

    Args:
        tree: the files.
        recorded: what is exported.
    """

    def __init__(self, tree: Tree, recorded: testing.Recorded) -> None:
        self.tree = tree
        self.recorded = recorded
        self.now_ns = 0
        self.observed = ObservedState()
        self.series = ContainerSeries()
        self.totals = TotalsCounter(Memory())
        # No engine answers: what can't be read from files is not sampled.
        self.engine = Engine({"DOCKER_HOST": f"unix://{tree.root}/absent.sock"})
        files = KernelFiles(tree.cgroup, tree.proc, clock=lambda: self.now_ns)
        self.sampler = Sampler(self.engine, self.observed, self.series, self.totals, 3600, files)

    def show(self, state: ContainerState) -> ContainerState:
        """Show a state, as the watcher does."""
        self.observed.update(state, time.monotonic())
        self.totals.count_inspect(state.handle, state.started_at, 0, False)
        self.series.set_run(state, YEARS_AGO_NS)
        self.series.set_state(state, True, self.totals.totals(state.handle), YEARS_AGO_NS)
        return state

    def value(self, name: str, handle: str = "user-1") -> float | None:
        return self.recorded.value(f"platform_container_{name}", handle=handle)

    def seen(self, handle: str = "user-1") -> ContainerState:
        found = self.observed.get(handle)
        assert found is not None
        return found


@pytest.fixture(params=[1, 2], ids=["v1", "v2"])
def sampled(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Sampled]:
    with testing.isolated() as recorded:
        yield Sampled(Tree(tmp_path, request.param), recorded)


def test_pass_updates_observed_state_and_series(sampled: Sampled) -> None:
    state = sampled.show(sampled.tree.add(1))
    assert sampled.sampler.collect_once() == 1
    assert sampled.value("cpu_percent") is None  # needs two readings
    sampled.tree.set(state, cpu_ns=1 * SECOND + 3 * SECOND // 4, receive=2000, transmit=900)
    sampled.now_ns += SECOND // 2
    sampled.sampler.collect_once()
    use = {"cpu_percent": 150.0, "memory_bytes": 12_980_224, "memory_limit_bytes": 67_108_864}
    assert sampled.seen() == replace(state, **use, receive_bytes=2000, transmit_bytes=900)
    totals = {
        "network_receive_bytes_total": 2000,
        "network_transmit_bytes_total": 900,
        "restarts_total": 0,
        "oom_kills_total": 0,
    }
    for name, value in (use | totals).items():
        assert sampled.value(name) == value, name


def test_network_counters_start_with_the_container(sampled: Sampled) -> None:
    """Not with the first sample: a start of the platform must not look like a burst of traffic."""
    sampled.show(sampled.tree.add(1))
    sampled.sampler.collect_once()
    points = [p for p in sampled.recorded.points() if "network" in p.metric.name]
    assert {p.start_time_ns for p in points} == {1_770_091_506_789_012_000}


def test_container_that_vanishes_while_sampled_is_skipped_and_logged(
    sampled: Sampled, caplog: pytest.LogCaptureFixture
) -> None:
    gone, stays = sampled.show(sampled.tree.add(1)), sampled.show(sampled.tree.add(2))
    sampled.sampler.collect_once()
    sampled.tree.remove(gone)
    sampled.tree.set(stays, used=5_000_000)
    with caplog.at_level(logging.INFO):
        assert sampled.sampler.collect_once() == 1
    assert "container user-1 (000000000000) ended while it was sampled; skipped" in caplog.text
    assert sampled.value("memory_bytes", "user-2") == 904_000


def test_ended_container_is_reported_until_it_is_observed(sampled: Sampled) -> None:
    """The engine may have gone down with it."""
    told: list[ContainerState] = []
    sampled.sampler._on_ended = told.append
    gone = sampled.show(sampled.tree.add(1))
    sampled.show(sampled.tree.add(2))
    sampled.sampler.collect_once()
    assert told == []
    sampled.tree.remove(gone)
    for times in (1, 2):
        sampled.sampler.collect_once()
        assert [state.id for state in told] == [gone.id] * times
    sampled.show(replace(gone, state="dead", pid=0))
    sampled.sampler.collect_once()
    assert len(told) == 2


def test_late_reading_does_not_restart_a_series(sampled: Sampled) -> None:
    state = sampled.show(sampled.tree.add(1))
    removed = sampled.show(sampled.tree.add(2))
    read = sampled.sampler._files.read

    def ended_meanwhile(seen: ContainerState) -> object:
        reading = read(seen)
        sampled.show(replace(state, state="exited", pid=0))
        sampled.observed.remove("user-2", removed.id)
        sampled.series.end("user-2")
        return reading

    sampled.sampler._files.read = ended_meanwhile  # type: ignore[method-assign,assignment]
    sampled.sampler.collect_once()
    assert sampled.value("memory_bytes") is None
    assert sampled.value("up") == 0
    assert sampled.seen().memory_bytes is None
    assert [p for p in sampled.recorded.points() if ("handle", "user-2") in p.key[1]] == []


def test_cpu_percent_is_not_computed_across_a_restart(sampled: Sampled) -> None:
    state = sampled.show(sampled.tree.add(1))
    sampled.sampler.collect_once()
    again = sampled.show(replace(state, started_at="2026-02-03T05:00:00Z"))
    sampled.tree.set(again, cpu_ns=9 * SECOND)
    sampled.now_ns += SECOND
    sampled.sampler.collect_once()
    assert sampled.value("cpu_percent") is None
    sampled.tree.set(again, cpu_ns=10 * SECOND)
    sampled.now_ns += 2 * SECOND
    sampled.sampler.collect_once()
    assert sampled.value("cpu_percent") == 50


def test_kernel_oom_kills_are_counted_without_events(sampled: Sampled) -> None:
    state = sampled.show(sampled.tree.add(1, oom_kills=2))
    sampled.sampler.collect_once()
    assert sampled.value("oom_kills_total") == 2
    again = sampled.show(replace(state, started_at="2026-02-03T05:00:00Z"))
    sampled.tree.set(again, oom_kills=1)
    sampled.sampler.collect_once()
    assert sampled.value("oom_kills_total") == 3


def test_absent_engine_is_logged_once_and_other_samples_continue(
    sampled: Sampled, caplog: pytest.LogCaptureFixture
) -> None:
    sampled.show(sampled.tree.add(1))
    elsewhere = sampled.show(sampled.tree.add(2))
    sampled.tree.remove(elsewhere)
    (sampled.tree.proc / str(elsewhere.pid) / "cgroup").unlink()
    assert sampled.sampler.collect_once() == 1
    assert sampled.sampler.collect_once() == 1
    said = [r.message for r in caplog.records if "1 containers not sampled" in r.message]
    assert len(said) == 1
    assert "no Docker engine answers" in said[0]


def test_sampler_continues_after_a_failed_pass(
    sampled: Sampled, caplog: pytest.LogCaptureFixture
) -> None:
    state = sampled.tree.add(1)
    failed = threading.Event()
    read = sampled.sampler._files.read

    def fails_once(seen: ContainerState) -> object:
        if not failed.is_set():
            failed.set()
            raise RuntimeError("never thought of")
        return read(seen)

    sampled.sampler._files.read = fails_once  # type: ignore[method-assign,assignment]
    sampled.sampler._interval_s = 0.01
    sampled.sampler.start()
    try:
        sampled.show(state)
        until(lambda: sampled.value("memory_bytes"))
    finally:
        sampled.sampler.stop()
    assert "a pass of the sampler failed" in caplog.text


def test_known_statuses_start_at_0(sampled: Sampled) -> None:
    state = sampled.tree.add(1)
    others = [replace(state, handle=f"u{i}", state="exited") for i in range(2)]
    sampled.series.set_statuses([state, *others])
    shown = {s: sampled.recorded.value("platform_containers_total", status=s) for s in STATUSES}
    assert shown == {**dict.fromkeys(STATUSES, 0), "running": 1, "exited": 2}


def test_paused_is_up_and_restarting_is_down(sampled: Sampled) -> None:
    state = sampled.show(replace(sampled.tree.add(1), state="paused"))
    assert sampled.value("up") == 1
    sampled.show(replace(state, state="restarting", pid=0))
    assert sampled.value("up") == 0


# --- totals ---------------------------------------------------------------------------------------

RUN, NEXT = "2026-02-03T04:05:06Z", "2026-02-03T05:00:00Z"
RUN_NS, NEXT_NS = 1_770_091_506 * SECOND, 1_770_094_800 * SECOND


@pytest.fixture
def desired() -> Memory:
    return Memory()


def test_kill_reported_by_event_kernel_and_inspect_counts_once(desired: Memory) -> None:
    totals = TotalsCounter(desired)
    totals.count_inspect("ann", RUN, 0, False)
    totals.count_kernel_oom_kills("ann", RUN, 1)
    totals.count_oom_event("ann", RUN_NS + 5)
    totals.count_inspect("ann", RUN, 0, True)
    assert totals.totals("ann").oom_kills == 1


def test_kill_reported_before_its_run_is_inspected_counts_once(desired: Memory) -> None:
    totals = TotalsCounter(desired)
    totals.count_inspect("ann", RUN, 0, False)
    for kills in (2, 3):  # the earlier run had more kills than events
        totals.count_kernel_oom_kills("ann", RUN, kills)
    totals.count_oom_event("ann", NEXT_NS + 5)
    totals.count_inspect("ann", NEXT, 0, True)
    totals.count_kernel_oom_kills("ann", NEXT, 1)
    assert totals.totals("ann").oom_kills == 4


def test_events_of_the_last_run_do_not_count_for_the_next(desired: Memory) -> None:
    totals = TotalsCounter(desired)
    totals.count_inspect("ann", RUN, 0, False)
    totals.count_oom_event("ann", RUN_NS + 5)
    totals.count_inspect("ann", NEXT, 0, True)
    assert totals.totals("ann").oom_kills == 2


def test_sample_of_an_older_run_is_ignored(desired: Memory) -> None:
    totals = TotalsCounter(desired)
    totals.count_inspect("ann", NEXT, 0, False)
    totals.count_kernel_oom_kills("ann", RUN, 7)
    assert totals.totals("ann").oom_kills == 0


def test_totals_survive_the_process(desired: Memory) -> None:
    totals = TotalsCounter(desired)
    totals.count_inspect("ann", RUN, 3, False)
    totals.count_oom_event("ann", RUN_NS + 5)
    totals.count_oom_event("ann", RUN_NS + 6)
    after = TotalsCounter(desired)
    after.count_inspect("ann", RUN, 4, False)
    after.count_kernel_oom_kills("ann", RUN, 2)
    assert after.totals("ann") == Totals(4, 2, 4, RUN, 2)
    after.count_oom_event("ann", RUN_NS + 7)
    assert after.totals("ann").oom_kills == 3


def test_restarts_never_decrease_when_docker_resets_its_count(desired: Memory) -> None:
    totals = TotalsCounter(desired)
    for docker_restarts in (0, 1, 3):
        totals.count_inspect("ann", RUN, docker_restarts, False)
    totals.reset_docker_restarts("ann")
    for docker_restarts in (2, 4):
        totals.count_inspect("ann", RUN, docker_restarts, False)
    totals.count_inspect("ann", RUN, 1, False)  # a user's start that was missed
    assert totals.totals("ann").restarts == 8


def test_forgotten_handle_starts_at_0(desired: Memory) -> None:
    totals = TotalsCounter(desired)
    totals.count_inspect("ann", RUN, 2, True)
    desired.removed("ann", "")
    totals.forget("ann")
    assert totals.totals("ann") == Totals()
