"""The sampler compared with `docker stats`, on busy containers."""

from __future__ import annotations

import json
import os
import re
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from telemetry.services.platform.sampling.kernel_files import KernelFiles
from telemetry.services.platform.sampling.reading import Reading
from telemetry.services.platform.state.observed import ContainerState
from tests.fixtures.docker import DockerEngine
from tests.fixtures.stack import until
from tests.platform.conftest import Running
from tests.platform.monitored import Monitored, monitored

pytestmark = pytest.mark.docker

ROUNDS = 3
# The kernel charges 64 pages a CPU ahead, so what is used differs by that from look to look.
AHEAD_BYTES = 64 * os.sysconf("SC_PAGE_SIZE") * (os.cpu_count() or 1)
_UNITS = {"B": 1, "kB": 1000, "MB": 10**6, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


@pytest.fixture
def watch(empty_docker: DockerEngine) -> Iterator[Monitored]:
    with monitored(empty_docker) as found:
        yield found


@dataclass
class Shown:
    """Values of a container by `docker stats` or the sampler, over the rounds."""

    cpu_percent: list[float] = field(default_factory=list)
    memory_bytes: list[float] = field(default_factory=list)
    limit_bytes: float = 0
    receive_bytes: float = 0
    transmit_bytes: float = 0


def size(text: str) -> float:
    """Convert ``12.5MiB`` to bytes."""
    found = re.fullmatch(r"([\d.]+)([A-Za-z]+)", text)
    assert found, text
    return float(found[1]) * _UNITS[found[2]]


def ask_docker(docker: DockerEngine, to: dict[str, Shown]) -> None:
    for line in docker.command("stats", "--no-stream", "--format", "{{json .}}").splitlines():
        row = json.loads(line)
        shown = to.setdefault(row["Name"].removeprefix("telemetry-"), Shown())
        used, limit = row["MemUsage"].split(" / ")
        received, sent = row["NetIO"].split(" / ")
        shown.cpu_percent.append(float(row["CPUPerc"].rstrip("%")))
        shown.memory_bytes.append(size(used))
        shown.limit_bytes = size(limit)
        shown.receive_bytes, shown.transmit_bytes = size(received), size(sent)


def ask_platform(platform: Running, to: dict[str, Shown]) -> None:
    platform.platform.monitor.sampler.collect_once()
    for state in platform.ask("GET", "/api/containers").json()["containers"]:
        shown = to.setdefault(state["handle"], Shown())
        shown.cpu_percent.append(state["cpu_percent"])
        shown.memory_bytes.append(state["memory_bytes"])
        shown.limit_bytes = state["memory_limit_bytes"]
        shown.receive_bytes, shown.transmit_bytes = state["receive_bytes"], state["transmit_bytes"]


def provision_ten(platform: Running, docker: DockerEngine) -> None:
    """One uses CPU, one memory, one has written a file, one uses the network, six idle."""
    # Not ping: containers get no raw sockets.
    calls = "for i in $(seq 100); do wget -q -O /dev/null $OTEL_EXPORTER_OTLP_ENDPOINT/; done"
    work = {
        "memory": "dd if=/dev/zero of=/dev/shm/held bs=1M count=32",
        "file": "dd if=/dev/zero of=/tmp/file bs=1M count=16",
        "talks": calls,
    }
    platform.make("cpu", command=["sh", "-c", "while true; do :; done"], cpus=0.5)
    for handle, script in work.items():
        command = ["sh", "-c", f"{script}; sleep 3600"]
        platform.make(handle, command=command, memory_limit_bytes=64 << 20)
    for number in range(6):
        platform.make(f"idle-{number}", command=["sleep", "3600"])
    for handle in work:
        until(lambda handle=handle: asleep(docker, f"telemetry-{handle}"), 30, handle)


def asleep(docker: DockerEngine, name: str) -> bool:
    """Tell whether a container has done its work."""
    processes = docker.client.containers.get(name).top(ps_args="-o pid,args")["Processes"]
    return "sleep 3600" in {row[-1] for row in processes}


def test_ten_containers_agree_with_docker_stats(
    platform: Running, docker_engine: DockerEngine
) -> None:
    provision_ten(platform, docker_engine)
    theirs: dict[str, Shown] = {}
    ours: dict[str, Shown] = {}
    sampler = platform.platform.monitor.sampler
    sampler.stop()  # sampled by hand, at the time docker stats measures
    sampler.collect_once()
    for _ in range(ROUNDS):
        ask_docker(docker_engine, theirs)
        ask_platform(platform, ours)
    assert sorted(ours) == sorted(theirs)
    assert len(ours) == 10
    for handle, their in theirs.items():
        our = ours[handle]
        # Its noise: the difference between rounds; at least 5 %, since docker stats measures
        # one second of our two.
        noise = max(max(their.cpu_percent) - min(their.cpu_percent), 5.0)
        cpu = statistics.median(our.cpu_percent), statistics.median(their.cpu_percent)
        assert cpu[0] == pytest.approx(cpu[1], abs=noise), handle
        # docker stats prints four digits.
        noise = max(their.memory_bytes) - min(their.memory_bytes) + AHEAD_BYTES
        memory = our.memory_bytes[-1], their.memory_bytes[-1]
        assert memory[0] == pytest.approx(memory[1], rel=0.001, abs=noise), handle
        assert our.limit_bytes == pytest.approx(their.limit_bytes, rel=0.001), handle
        # docker stats prints three digits; a few IPv6 packets arrive in between.
        for one, other in (
            (our.receive_bytes, their.receive_bytes),
            (our.transmit_bytes, their.transmit_bytes),
        ):
            assert one == pytest.approx(other, rel=0.01, abs=500), handle
    # Its share depends on the machine's load; at most half a core.
    assert 1 < statistics.median(ours["cpu"].cpu_percent) < 60
    assert max(statistics.median(ours[f"idle-{n}"].cpu_percent) for n in range(6)) < 1
    assert ours["memory"].memory_bytes[-1] > 32 << 20
    assert ours["file"].memory_bytes[-1] < 16 << 20  # page cache can be reclaimed
    assert ours["talks"].transmit_bytes > 20_000


def test_engine_gives_the_same_if_files_are_not_readable(watch: Monitored, tmp_path: Path) -> None:
    hold = "dd if=/dev/zero of=/dev/shm/held bs=1M count=32; sleep 3600"
    watch.docker.run("memory", "sh", "-c", hold, mem_limit="64m")
    watch.run("cpu", "sh", "-c", "while true; do :; done", nano_cpus=500_000_000)
    watch.wait_up("memory", 1)
    until(lambda: asleep(watch.docker, "memory"))
    sampler = watch.monitor.sampler
    sampler.collect_once()
    by_files = watch.state("memory")
    sampler._files = KernelFiles(tmp_path, tmp_path)
    assert sampler.collect_once() == 2
    by_engine = watch.state("memory")
    assert by_engine.memory_bytes == pytest.approx(by_files.memory_bytes, abs=AHEAD_BYTES)
    assert by_engine.memory_limit_bytes == by_files.memory_limit_bytes == 64 << 20
    # Readings of different clocks are not comparable; two of the engine's are.
    assert sampler.collect_once() == 2
    cpu_percent = watch.value("cpu_percent", "cpu")
    assert cpu_percent is not None
    assert 1 < cpu_percent < 75


def test_started_container_is_sampled_at_once(empty_docker: DockerEngine) -> None:
    """Not only at the next pass, an hour later."""
    for number in range(10):
        empty_docker.run(f"user-{number}")

    def slow(event: object) -> None:  # lets the sampler run before the watcher continues
        time.sleep(0.02)

    with monitored(empty_docker, listeners=[slow]) as watch:
        until(lambda: all(watch.value("memory_bytes", f"user-{n}") for n in range(10)))
        assert all(state.memory_bytes for state in watch.observed.all())
        watch.run("late")
        until(lambda: watch.value("memory_bytes", "late"))


def test_container_removed_during_a_pass_is_skipped(
    watch: Monitored, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    containers = {handle: watch.run(handle) for handle in ("ann", "bob", "cid")}
    sampler = watch.monitor.sampler

    def read_without(handle: str, files: KernelFiles) -> KernelFiles:
        """Kernel files that remove a container before it is read."""
        read = files.read

        def reading(state: ContainerState) -> Reading:
            if state.handle == handle:
                containers[handle].remove(force=True)
            return read(state)

        files.read = reading  # type: ignore[method-assign]
        return files

    sampler._files = read_without("bob", sampler._files)
    assert sampler.collect_once() == 2
    assert "container bob" in caplog.text
    until(lambda: watch.observed.get("bob") is None)
    until(lambda: not watch.series_of("bob"))
    assert watch.value("memory_bytes", "cid")
    # The same by the engine's stats call.
    sampler._files = read_without("ann", KernelFiles(tmp_path, tmp_path))
    assert sampler.collect_once() == 1
    assert "container ann" in caplog.text
    until(lambda: not watch.series_of("ann"))
