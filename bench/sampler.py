"""Measure the CPU of a sampling pass over 1,000 containers, and of the engine's own calls.

    nox -s bench -- sampler         (or: python -m bench.sampler [--quick] [--containers N])

As root it uses real containers, as many as the machine supports. A private Docker engine starts 20.
Each of the others is a control group with a process and a network, created as Docker does. The
remaining ones are simulated by files with the same content. CPU is that of this process, user and
system time, including the series and the kernel's work for its reads. Figures are medians over the
passes.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from telemetry import metrics
from telemetry.services.platform.sampling import engine_stats
from telemetry.services.platform.sampling.kernel_files import KernelFiles
from telemetry.services.platform.sampling.metrics import ContainerSeries
from telemetry.services.platform.sampling.sampler import Sampler
from telemetry.services.platform.sampling.totals import TotalsCounter
from telemetry.services.platform.state.desired import Totals
from telemetry.services.platform.state.observed import ContainerState, ObservedState, from_inspect
from telemetry.system.docker_engine import Engine

TARGET_MS = 250
DOCKER = 20
MOUNT = Path("/sys/fs/cgroup")
NAME = "telemetry-bench"
STARTED = "2026-02-03T04:05:06Z"


class UnstoredState:
    """A desired state that stores nothing."""

    def wanted(self, handle: str) -> bool:
        return True

    def started(self, handle: str, container_id: str) -> None: ...

    def stopped(self, handle: str) -> None: ...

    def removed(self, handle: str, container_id: str) -> None: ...

    def totals(self, handle: str) -> Totals:
        return Totals()

    def save_totals(self, handle: str, totals: Totals) -> None: ...


class Kind:
    """Containers with files in the same place.

    Args:
        name: shown in the table.
        files: reads their files.
        states: the containers.
        engine: required by the sampler, but not called.
    """

    def __init__(
        self, name: str, files: KernelFiles, states: list[ContainerState], engine: Engine
    ) -> None:
        self.name = name
        self.states = states
        observed, series, totals = (
            ObservedState(),
            ContainerSeries(),
            TotalsCounter(UnstoredState()),
        )
        for state in states:
            observed.update(state, time.monotonic())
            totals.count_inspect(state.handle, state.started_at, 0, False)
            series.set_run(state, 1)
            series.set_state(state, True, Totals(), 1)
        self.sampler = Sampler(engine, observed, series, totals, 15, files)

    def once(self) -> None:
        sampled = self.sampler.collect_once()
        assert sampled == len(self.states), f"{self.name}: {sampled} of {len(self.states)}"


# --- containers -----------------------------------------------------------------------------------


@contextmanager
def by_docker(count: int) -> Iterator[tuple[Any, list[ContainerState]]]:
    """Start a private engine with running containers on a network."""
    from tests.fixtures.docker import private_engine

    with private_engine() as docker:
        docker.client.networks.create("bench")
        for number in range(count):
            docker.run(f"docker-{number}", network_mode="bench", mem_limit="64m")
        listed = docker.client.containers.list()
        yield docker, [from_inspect(container.attrs) for container in listed]


@contextmanager
def by_hand(count: int) -> Iterator[list[ContainerState]]:
    """Create control groups, each with a process in its own network, as many as possible."""
    parents = _parents()
    children: list[subprocess.Popen[bytes]] = []
    states: list[ContainerState] = []
    folders: list[Path] = []
    try:
        for parent in parents:
            parent.mkdir()
        if (MOUNT / "cgroup.controllers").exists():
            for folder in (MOUNT, *parents):
                (folder / "cgroup.subtree_control").write_text("+cpu +memory")
        for number in range(count):
            try:
                child = subprocess.Popen(["unshare", "-n", "sleep", "3600"])
                children.append(child)
                id = f"{number:064x}"
                for parent in parents:
                    (parent / id).mkdir()
                    folders.append(parent / id)
                    (parent / id / "cgroup.procs").write_text(str(child.pid))
            except OSError as error:
                print(f"only {number} containers could be created by hand: {error}")
                break
            states.append(
                ContainerState(
                    f"hand-{number}", id, state="running", pid=child.pid, started_at=STARTED
                )
            )
        _wait_for_networks(children)
        yield states
    finally:
        for child in children:
            child.kill()
        for child in children:
            child.wait()
        for folder in (*folders, *parents):
            _remove(folder)


def _parents() -> list[Path]:
    if (MOUNT / "cgroup.controllers").exists():
        return [MOUNT / NAME]
    return [MOUNT / "memory" / NAME, MOUNT / "cpuacct" / NAME]


def _wait_for_networks(children: list[subprocess.Popen[bytes]]) -> None:
    """Wait until every process is in its own network."""
    own = os.readlink("/proc/self/ns/net")
    for child in children:
        while os.readlink(f"/proc/{child.pid}/ns/net") == own:
            time.sleep(0.01)


def _remove(folder: Path) -> None:
    for _ in range(200):  # a group is busy until the kernel has released its last process
        try:
            folder.rmdir()
            return
        except FileNotFoundError:
            return
        except OSError:
            time.sleep(0.01)
    print(f"could not delete {folder}")


def laid_out(folder: Path, first: int, count: int) -> list[ContainerState]:
    """Write files with the same content as a container's."""
    from tests.platform.trees import Tree

    tree = Tree(folder)
    return [tree.add(number) for number in range(first, first + count)]


# --- measuring ------------------------------------------------------------------------------------


def spent(work: Callable[[], object], passes: int) -> tuple[list[float], list[float]]:
    """Measure CPU and wall ms of each pass, after two passes to warm up."""
    cpu, wall = [], []
    for number in range(passes + 2):
        began, used = time.perf_counter(), time.process_time()
        work()
        if number >= 2:
            cpu.append((time.process_time() - used) * 1000)
            wall.append((time.perf_counter() - began) * 1000)
    return cpu, wall


def daemons_cpu_s(home: Path) -> float:
    """Read the CPU seconds of a private engine's dockerd and containerd so far."""
    total = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            command = (stat.parent / "cmdline").read_bytes()
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if str(home).encode() in command and b"shim" not in command:
            total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


def row(name: str, number: int, cpu: list[float], wall: list[float], more: str = "") -> None:
    ms, wall_ms = statistics.median(cpu), statistics.median(wall)
    print(
        f"{name:44}{number:>6}{ms:>10.1f}{max(cpu):>10.1f}{ms / number * 1000:>10.0f}"
        f"{wall_ms:>10.1f}{more}"
    )


def compare(docker: Any, states: list[ContainerState], passes: int) -> None:
    """Compare reading the same containers by their files and by the engine's stats calls."""
    engine = Engine({"DOCKER_HOST": docker.base_url})
    files = Kind("", KernelFiles(), states, engine)
    row("the 20 of Docker: by their files", len(states), *spent(files.once, passes))

    def ask() -> None:
        answers = list(engine_stats.read_all(engine, states))
        assert all(reading is not None for _, reading in answers)

    rounds = max(1, passes // 4)
    before = daemons_cpu_s(docker.home)
    cpu, wall = spent(ask, rounds)
    daemon_ms = (daemons_cpu_s(docker.home) - before) * 1000 / (rounds + 2)
    row("the same: by concurrent stats calls", len(states), cpu, wall,
        f"   and {daemon_ms:.0f} ms CPU in dockerd")  # fmt: skip

    def ask_in_turn() -> None:
        for state in states[:3]:
            assert engine_stats._read(engine, state) is not None

    row("3 of them: by sequential stats calls", 3, *spent(ask_in_turn, 1))
    engine.close()


def run(args: argparse.Namespace) -> None:
    passes = 4 if args.quick else 20
    metrics.current().limit = max(2000, args.containers)
    nowhere = Engine({"DOCKER_HOST": "unix:///nonexistent/docker.sock"})
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench")))
        docker, real, made = None, [], []
        if os.geteuid() == 0:
            docker, real = stack.enter_context(by_docker(min(DOCKER, args.containers)))
            made = stack.enter_context(by_hand(args.containers - len(real)))
        else:
            print("not root: all containers are simulated by files, and no engine is called")
        missing = args.containers - len(real) - len(made)
        kinds = [
            Kind(
                f"real: {len(real)} of Docker, {len(made)} by hand",
                KernelFiles(),
                real + made,
                nowhere,
            )
        ]
        if missing:
            tree = laid_out(folder, 0, missing)
            files = KernelFiles(folder / "cgroup", folder / "proc")
            kinds.append(Kind("simulated by files", files, tree, nowhere))
        kinds = [kind for kind in kinds if kind.states]
        print(f"{'':44}{'of':>6}{'CPU ms':>10}{'most':>10}{'µs each':>10}{'wall ms':>10}")
        cpu, wall = spent(lambda: [kind.once() for kind in kinds], passes)
        row("one pass", args.containers, cpu, wall)
        for kind in kinds:
            row(f"  {kind.name}", len(kind.states), *spent(kind.once, passes))
        if docker is not None:
            compare(docker, real, passes)
        ms = statistics.median(cpu) / args.containers * 1000
        verdict = "met" if ms <= TARGET_MS else "missed"
        print(f"1,000 containers: {ms:.0f} ms CPU per pass (target: {TARGET_MS} ms): {verdict}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.sampler", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few passes")
    parser.add_argument(
        "--containers", type=int, default=1000, help="number of containers (default: 1000)"
    )
    run(parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
