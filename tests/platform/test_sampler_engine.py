"""The sampler beside `docker stats`, on containers that work."""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from telemetry.services.platform.sampling.files import Files
from tests.fixtures.docker import DockerEngine
from tests.fixtures.stack import until
from tests.platform.monitored import Monitored, monitored

pytestmark = pytest.mark.docker

ROUNDS = 3
_UNITS = {"B": 1, "kB": 1000, "MB": 10**6, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


@pytest.fixture
def watch(empty_docker: DockerEngine) -> Iterator[Monitored]:
    with monitored(empty_docker) as found:
        yield found


@dataclass
class Shown:
    """What `docker stats` or the sampler showed of a container, over the rounds."""

    cpu_percent: list[float] = field(default_factory=list)
    memory_bytes: list[float] = field(default_factory=list)
    limit_bytes: float = 0
    receive_bytes: float = 0
    transmit_bytes: float = 0


def size(text: str) -> float:
    """``12.5MiB`` in bytes."""
    found = re.fullmatch(r"([\d.]+)([A-Za-z]+)", text)
    assert found, text
    return float(found[1]) * _UNITS[found[2]]


def ask_docker(docker: DockerEngine, to: dict[str, Shown]) -> None:
    for line in docker.command("stats", "--no-stream", "--format", "{{json .}}").splitlines():
        row = json.loads(line)
        shown = to.setdefault(row["Name"], Shown())
        used, limit = row["MemUsage"].split(" / ")
        received, sent = row["NetIO"].split(" / ")
        shown.cpu_percent.append(float(row["CPUPerc"].rstrip("%")))
        shown.memory_bytes.append(size(used))
        shown.limit_bytes = size(limit)
        shown.receive_bytes, shown.transmit_bytes = size(received), size(sent)


def ask_sampler(watch: Monitored, to: dict[str, Shown]) -> None:
    watch.monitor.sampler.collect_once()
    for state in watch.view.all():
        shown = to.setdefault(state.handle, Shown())
        assert state.cpu_percent is not None
        assert state.memory_bytes is not None
        shown.cpu_percent.append(state.cpu_percent)
        shown.memory_bytes.append(state.memory_bytes)
        shown.limit_bytes = state.memory_limit_bytes or 0
        shown.receive_bytes, shown.transmit_bytes = (
            state.receive_bytes or 0, state.transmit_bytes or 0,
        )  # fmt: skip


def ten(watch: Monitored) -> None:
    """One burns CPU, one holds memory, one has written a file, two talk, five do nothing."""
    watch.docker.client.networks.create("talk")
    busy = "while true; do :; done"
    watch.docker.run("cpu", "sh", "-c", busy, nano_cpus=500_000_000)
    hold = "dd if=/dev/zero of=/dev/shm/held bs=1M count=32; sleep 3600"
    watch.docker.run("memory", "sh", "-c", hold, mem_limit="64m")
    write = "dd if=/dev/zero of=/tmp/file bs=1M count=16; sleep 3600"
    watch.docker.run("file", "sh", "-c", write, mem_limit="64m")
    watch.docker.run("hears", network_mode="talk")
    watch.docker.run("talks", "sh", "-c", "ping -c 20 -i 0.05 -s 1000 hears; sleep 3600",
                     network_mode="talk")  # fmt: skip
    for number in range(5):
        watch.docker.run(f"idle-{number}")
    for container in watch.docker.client.containers.list():
        watch.wait_up(container.name, 1)
    for handle in ("memory", "file", "talks"):
        until(lambda handle=handle: asleep(watch, handle), 30, f"{handle} has done its work")


def asleep(watch: Monitored, handle: str) -> bool:
    container = watch.docker.client.containers.get(handle)
    return "sleep 3600" in {row[-1] for row in container.top(ps_args="-o pid,args")["Processes"]}


def test_ten_containers_agree_with_docker_stats(watch: Monitored) -> None:
    ten(watch)
    theirs: dict[str, Shown] = {}
    ours: dict[str, Shown] = {}
    watch.monitor.sampler.collect_once()
    for _ in range(ROUNDS):
        ask_docker(watch.docker, theirs)
        ask_sampler(watch, ours)  # of the time in which docker stats looked twice
    assert sorted(ours) == sorted(theirs)
    assert len(ours) == 10
    for handle, their in theirs.items():
        our = ours[handle]
        # Its own noise: what it differs by from one look to the next; at least a 20th, since
        # docker stats looks at one second of our two.
        noise = max(max(their.cpu_percent) - min(their.cpu_percent), 5.0)
        cpu = statistics.median(our.cpu_percent), statistics.median(their.cpu_percent)
        assert cpu[0] == pytest.approx(cpu[1], abs=noise), handle
        # It prints four digits; a page or two come and go.
        noise = max(their.memory_bytes) - min(their.memory_bytes) + 64 * 1024
        memory = our.memory_bytes[-1], their.memory_bytes[-1]
        assert memory[0] == pytest.approx(memory[1], rel=0.001, abs=noise), handle
        assert our.limit_bytes == pytest.approx(their.limit_bytes, rel=0.001), handle
        assert our.receive_bytes == pytest.approx(their.receive_bytes, rel=0.01), handle
        assert our.transmit_bytes == pytest.approx(their.transmit_bytes, rel=0.01), handle
    # How much it gets depends on what else the machine does; half a core at most.
    assert 1 < statistics.median(ours["cpu"].cpu_percent) < 60
    assert max(statistics.median(ours[f"idle-{n}"].cpu_percent) for n in range(5)) < 1
    assert ours["memory"].memory_bytes[-1] > 32 << 20
    assert ours["file"].memory_bytes[-1] < 16 << 20  # a file's pages could go at once
    assert ours["talks"].transmit_bytes > 20_000


def test_the_engine_gives_the_same_where_no_file_can_be_read(
    watch: Monitored, tmp_path: Path
) -> None:
    hold = "dd if=/dev/zero of=/dev/shm/held bs=1M count=32; sleep 3600"
    watch.docker.run("memory", "sh", "-c", hold, mem_limit="64m")
    watch.run("cpu", "sh", "-c", "while true; do :; done", nano_cpus=500_000_000)
    watch.wait_up("memory", 1)
    until(lambda: asleep(watch, "memory"))
    sampler = watch.monitor.sampler
    sampler.collect_once()
    by_files = watch.state("memory")
    sampler._files = Files(tmp_path, tmp_path)
    assert sampler.collect_once() == 2
    by_engine = watch.state("memory")
    assert by_engine.memory_bytes == pytest.approx(by_files.memory_bytes, abs=64 * 1024)
    assert by_engine.memory_limit_bytes == by_files.memory_limit_bytes == 64 << 20
    # Readings of different clocks are not compared; two of the engine's are.
    assert sampler.collect_once() == 2
    cpu_percent = watch.value("cpu_percent", "cpu")
    assert cpu_percent is not None
    assert 1 < cpu_percent < 75


def test_one_removed_in_the_middle_of_a_pass_is_skipped(
    watch: Monitored, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    containers = {handle: watch.run(handle) for handle in ("ann", "bob", "cid")}
    sampler = watch.monitor.sampler
    read = sampler._files.read

    def meanwhile(state: object) -> object:
        if state.handle == "bob":  # type: ignore[attr-defined]
            containers["bob"].remove(force=True)
        return read(state)  # type: ignore[arg-type]

    sampler._files.read = meanwhile  # type: ignore[method-assign,assignment]
    assert sampler.collect_once() == 2
    assert "container bob" in caplog.text
    until(lambda: watch.view.get("bob") is None)
    assert [p for p in watch.recorded.points() if ("handle", "bob") in p.key[1]] == []
    assert watch.value("memory_bytes", "cid")
    # The same by the engine's own call.
    sampler._files = Files(tmp_path, tmp_path)
    ann = watch.state("ann")
    containers["ann"].remove(force=True)
    until(lambda: watch.view.get("ann") is None)
    watch.view.put(ann)
    assert sampler.collect_once() == 1
    assert "container ann" in caplog.text
    assert watch.value("memory_bytes", "ann") is None
