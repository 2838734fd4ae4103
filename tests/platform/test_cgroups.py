"""Readings from prepared files of both versions, and from the engine's answer."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest

from telemetry.services.platform.sampling.engine_stats import reading
from telemetry.services.platform.sampling.kernel_files import KernelFiles
from telemetry.services.platform.sampling.reading import Reading, Unreadable, Vanished
from tests.platform.trees import STATS, Tree, container_id

MACHINE_BYTES = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture(params=[1, 2], ids=["v1", "v2"])
def version(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(params=["cgroupfs", "systemd"])
def tree(version: Literal[1, 2], request: pytest.FixtureRequest, tmp_path: Path) -> Tree:
    return Tree(tmp_path, version, request.param)


def files(tree: Tree) -> KernelFiles:
    return KernelFiles(tree.cgroup, tree.proc, clock=lambda: 5)


EXPECTED = Reading("files", 5, 1_000_000_000, 12_980_224, 67_108_864, 1266, 726, 0)


def test_reading_agrees_with_docker_stats(tree: Tree) -> None:
    assert files(tree).read(tree.add(1)) == EXPECTED


def test_container_without_limit_has_the_machines_memory(tree: Tree) -> None:
    assert files(tree).read(tree.add(1, limit=None)).memory_limit_bytes == MACHINE_BYTES


def test_inactive_memory_above_used_is_ignored(tree: Tree) -> None:
    assert files(tree).read(tree.add(1, used=100, inactive=100)).memory_bytes == 100


def test_oom_kills_are_read(tree: Tree) -> None:
    assert files(tree).read(tree.add(1, oom_kills=3)).oom_kills == 3


def test_groups_created_inside_the_container_are_ignored(tree: Tree) -> None:
    """systemd in a container moves the first process to a group below."""
    state = tree.add(1)
    cgroup = tree.proc / str(state.pid) / "cgroup"
    below = cgroup.read_text().replace(state.id, f"{state.id}/init.scope", 100)
    if tree.driver == "systemd":
        below = cgroup.read_text().replace(".scope", ".scope/init.scope")
    cgroup.write_text(below)
    assert files(tree).read(state) == EXPECTED


def test_container_is_found_by_id_if_its_process_is_not_visible(tree: Tree) -> None:
    state = replace(tree.add(1), pid=4_000_000)
    found = files(tree).read(state)
    assert (found.cpu_ns, found.memory_bytes) == (EXPECTED.cpu_ns, EXPECTED.memory_bytes)
    assert found.receive_bytes is None


def test_reused_process_id_is_ignored(tree: Tree) -> None:
    other = tree.add(2, cpu_ns=77)
    state = replace(tree.add(1), pid=other.pid)
    tree.remove(state)
    with pytest.raises(Unreadable):
        files(tree).read(state)


def test_container_that_ends_between_two_readings_has_vanished(tree: Tree) -> None:
    reader, state = files(tree), tree.add(1)
    reader.read(state)
    tree.remove(state)
    with pytest.raises(Vanished):
        reader.read(state)
    tree.add(1)  # started again
    assert reader.read(state) == EXPECTED


def test_container_has_ended_only_if_its_group_or_process_is_gone(tree: Tree) -> None:
    """A container that is only unreadable at the moment has not ended."""
    reader, state = files(tree), tree.add(1)
    assert not reader.has_ended(state), "never read: it may be of another machine"
    reader.read(state)
    used = next(tree.cgroup.rglob("memory.current" if tree.version == 2 else "*usage_in_bytes"))
    used.write_text("")
    with pytest.raises(Vanished):
        reader.read(state)
    assert not reader.has_ended(state)
    net = tree.proc / str(state.pid) / "net/dev"
    net.rename(net.with_suffix(".away"))
    assert reader.has_ended(state)
    net.with_suffix(".away").rename(net)
    tree.remove(state)
    assert reader.has_ended(state)
    assert not reader.has_ended(replace(state, started_at="2026-02-03T05:00:00Z")), "another run"


def test_empty_file_of_a_group_being_removed_means_vanished(tree: Tree) -> None:
    reader, state = files(tree), tree.add(1)
    reader.read(state)
    for file in tree.cgroup.rglob("memory.*"):
        file.write_text("")
    with pytest.raises(Vanished):
        reader.read(state)


def test_container_of_another_machine_is_unreadable(tree: Tree) -> None:
    tree.add(1)
    with pytest.raises(Unreadable):
        files(tree).read(replace(tree.add(1), id=container_id(9), pid=1))


def test_container_in_the_machines_network_has_no_network_values(tree: Tree) -> None:
    state = tree.add(1)
    for pid in (state.pid, 1):
        (tree.proc / str(pid) / "ns").mkdir(parents=True)
        (tree.proc / str(pid) / "ns/net").symlink_to("net:[4026531840]")
    assert files(tree).read(state).receive_bytes is None


def test_host_network_is_taken_from_docker_if_proc_is_not_readable(tree: Tree) -> None:
    """As in a container, where /proc/1 is another process."""
    state = replace(tree.add(1), host_network=True)
    assert files(tree).read(state).receive_bytes is None
    assert files(tree).read(state).memory_bytes == EXPECTED.memory_bytes


def test_loopback_alone_is_not_a_network(tree: Tree) -> None:
    state = tree.add(1)
    net = tree.proc / str(state.pid) / "net/dev"
    net.write_text("".join(net.read_text().splitlines(keepends=True)[:3]))
    assert files(tree).read(state).receive_bytes is None


def test_all_interfaces_are_added_up(tree: Tree) -> None:
    state = tree.add(1)
    net = tree.proc / str(state.pid) / "net/dev"
    heading, lo, eth = (lambda lines: (lines[:2], lines[2], lines[3]))(
        net.read_text().splitlines(keepends=True)
    )
    many = [eth.replace("eth0", f"eth{number}") for number in range(1000)]
    net.write_text("".join([*heading, lo, *many]))
    found = files(tree).read(state)
    assert (found.receive_bytes, found.transmit_bytes) == (1_266_000, 726_000)


def test_joined_cpu_and_cpuacct_mounts_are_read(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    state = tree.add(1)
    (tree.cgroup / "cpuacct").rename(tree.cgroup / "cpu,cpuacct")
    cgroup = tree.proc / str(state.pid) / "cgroup"
    cgroup.write_text(cgroup.read_text().replace("cpuacct", "cpu,cpuacct"))
    assert files(tree).read(state) == EXPECTED


def test_container_without_memory_controller_is_unreadable(tmp_path: Path) -> None:
    tree = Tree(tmp_path, 2)
    state = tree.add(1)
    for file in tree.cgroup.rglob("memory.*"):
        file.unlink()
    with pytest.raises(Unreadable):
        files(tree).read(state)


def test_engine_stats_give_the_same_reading() -> None:
    assert reading(STATS) == Reading(
        "engine", 1_795_620_850_123_456_000, 2_500_000_000, 12_980_224, 67_108_864, 1266, 726
    )


def test_engine_stats_on_version_2_without_a_network() -> None:
    memory = {"usage": 1000, "limit": 5000, "stats": {"inactive_file": 400}}
    found = reading({**STATS, "memory_stats": memory, "networks": None})
    assert found is not None
    assert (found.memory_bytes, found.receive_bytes) == (600, None)


def test_engine_stats_of_an_ended_container_are_none() -> None:
    # As Engine 20.10 answers.
    empty: dict[str, Any] = {"cpu_usage": {"total_usage": 0}}
    assert reading({"read": "0001-01-01T00:00:00Z", "memory_stats": {}, "cpu_stats": empty}) is None


@pytest.mark.parametrize(
    ("cpu_ns", "taken_ns", "percent"),
    [(1_500, 2_000, 50.0), (3_000, 2_000, 200.0), (1_000, 2_000, 0.0), (1_500, 1_000, None)],
)
def test_cpu_percent_is_of_one_core(cpu_ns: int, taken_ns: int, percent: float | None) -> None:
    before = replace(EXPECTED, cpu_ns=1_000, taken_ns=1_000)
    after = replace(EXPECTED, cpu_ns=cpu_ns, taken_ns=taken_ns)
    assert after.cpu_percent(before) == percent


def test_cpu_percent_needs_a_comparable_earlier_reading() -> None:
    later = replace(EXPECTED, taken_ns=9)
    assert later.cpu_percent(None) is None
    assert later.cpu_percent(replace(EXPECTED, source="engine")) is None
    assert later.cpu_percent(replace(EXPECTED, cpu_ns=EXPECTED.cpu_ns + 1)) is None
