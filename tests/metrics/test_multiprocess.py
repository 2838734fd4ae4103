"""Files of several workers: any worker reports all counts, none are lost or counted twice."""

from __future__ import annotations

import contextlib
import io
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from telemetry.catalog import Metric
from telemetry.export.exposition import Renderer
from telemetry.metrics import multiprocess
from telemetry.metrics.multiprocess import FileStorage, RunFolder
from telemetry.metrics.points import HistogramValue, Point, merged
from telemetry.metrics.registry import Registry

ORDERS = Metric("shop.orders", "counter", "{order}", "Orders.", ("country",))
OPEN = Metric("shop.open", "updowncounter", "{order}", "Orders open.")
CPU = Metric("shop.cpu", "counter", "s", "CPU.", ("worker",))
TIME = Metric("shop.time", "histogram", "s", "Time.", (), (1.0, 2.0))

_WORKER = textwrap.dedent(
    """
    import sys, pathlib
    from telemetry.metrics.registry import Registry
    from telemetry.metrics.multiprocess import FileStorage
    from tests.metrics.test_multiprocess import fill
    folder, name, amount = sys.argv[1:4]
    registry = Registry(FileStorage(pathlib.Path(folder), name, {"service.name": "shop"}, ["shop"]))
    fill(registry, float(amount))
    print("ready", flush=True)
    sys.stdin.read()
    """
)


def fill(registry: Registry, amount: float) -> None:
    registry.instrument(ORDERS).at({"country": "de"}).cells[0] += amount
    registry.instrument(OPEN).at({}).cells[0] = amount
    registry.instrument(CPU).at({"worker": "7"}).cells[0] = amount
    cells = registry.instrument(TIME).at({}).cells
    cells[0], cells[2] = amount, 1


class Worker:
    """A process that has counted something and stays alive."""

    def __init__(self, folder: Path, name: str, amount: float) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", _WORKER, str(folder), name, str(amount)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate()


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[FileStorage]:
    """Storage of this process."""
    made = FileStorage(tmp_path, "me", {}, [])
    yield made
    made.close()


@pytest.fixture
def worker(tmp_path: Path) -> Any:
    made: list[Worker] = []

    def make(name: str, amount: float) -> Worker:
        made.append(Worker(tmp_path, name, amount))
        return made[-1]

    yield make
    for each in made:
        each.kill()


def values_by_name(points: list[Point]) -> dict[str, Any]:
    return {point.metric.name: point.value for point in points}


def test_live_worker_shows_all_series_killed_worker_its_totals(tmp_path: Path, worker: Any) -> None:
    first = worker("first", 3)
    folder = RunFolder(tmp_path)
    assert values_by_name(folder.others()) == {
        "shop.orders": 3,
        "shop.open": 3,
        "shop.cpu": 3,
        "shop.time": HistogramValue(3, [0, 1, 0]),
    }
    first.kill()
    assert values_by_name(folder.others()) == {
        "shop.orders": 3,
        "shop.time": HistogramValue(3, [0, 1, 0]),
    }


def test_concurrent_scrapes_lose_no_new_series(
    tmp_path: Path, storage: FileStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two scrapes at the same time, while there are new series to read."""
    registry, folder = Registry(storage), RunFolder(tmp_path)
    folder.others()  # the file is known
    both = threading.Barrier(2)

    class Interrupted(io.BufferedReader):
        def read(self, size: int | None = -1) -> bytes:
            data = super().read(size)
            with contextlib.suppress(threading.BrokenBarrierError):
                both.wait(0.1)  # for the other scrape, unless a lock holds it back
            return data

    registry.instrument(ORDERS).at({"country": "de"}).cells[0] = 1
    monkeypatch.setattr(
        multiprocess, "open", lambda path, mode: Interrupted(io.FileIO(path)), raising=False
    )
    scrapes = [threading.Thread(target=folder.others) for _ in range(2)]
    for scrape in scrapes:
        scrape.start()
    for scrape in scrapes:
        scrape.join()
    monkeypatch.undo()
    registry.instrument(TIME).at({}).cells[0] = 2
    assert values_by_name(folder.others()) == {
        "shop.orders": 1,
        "shop.time": HistogramValue(2, [0, 0, 0]),
    }


@pytest.mark.parametrize("call", ["pwrite", "write"])
def test_full_disk_loses_only_new_series(
    tmp_path: Path, storage: FileStorage, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """A write to a nearly full tmpfs is short: it writes what fits and returns that size."""
    registry, folder = Registry(storage), RunFolder(tmp_path)
    registry.instrument(ORDERS).at({"country": "de"}).cells[0] = 1
    storage._used = multiprocess.CHUNK_DOUBLES  # the next series needs room
    whole = getattr(os, call)
    monkeypatch.setattr(multiprocess.os, call, lambda fd, data, *at: whole(fd, data[:5], *at))
    time = registry.instrument(TIME).at({})
    time.cells[0] = 2
    registry.end_where(lambda series: series.metric is TIME)
    monkeypatch.undo()
    registry.instrument(TIME).at({}).cells[0] = 3
    assert values_by_name(folder.others()) == {
        "shop.orders": 1,
        "shop.time": HistogramValue(3, [0, 0, 0]),
    }


_FORKING = textwrap.dedent(
    """
    import itertools, os, pathlib, sys, threading
    from telemetry.metrics.registry import Registry
    from telemetry.metrics.multiprocess import FileStorage
    from tests.metrics.test_multiprocess import ORDERS
    storage = FileStorage(pathlib.Path(sys.argv[1]), "me", {})
    registry = Registry(storage, limit=10**6)
    orders = registry.instrument(ORDERS)
    def begin_series():
        for number in itertools.count():
            orders.at({"country": str(number)})
    threading.Thread(target=begin_series, daemon=True).start()
    for _ in range(20):
        if (child := os.fork()) == 0:
            storage.close()
            os._exit(0)
        os.waitpid(child, 0)
    os._exit(0)
    """
)


def test_fork_while_another_thread_writes_does_not_hang_child(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _FORKING, str(tmp_path)]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], timeout=60, check=False)
    assert done.returncode == 0


def test_newer_version_of_buckets_wins(tmp_path: Path) -> None:
    """After a reload the old worker's totals are still in the run folder."""
    longer = replace(TIME, buckets=(1.0, 2.0, 3.0))
    own = Point(longer, (), HistogramValue(1.0, [0, 1, 0, 0]), 2)
    old = Point(TIME, (), HistogramValue(9.0, [3, 3, 3]), 1)
    assert merged([own, old]) == [own]
    renderer = Renderer()
    assert 'le="2.0"} 6' in renderer.render([old]).decode()
    assert 'le="3.0"} 1' in renderer.render([own]).decode()


def test_orphan_of_killed_worker_is_exported_by_one_survivor(tmp_path: Path, worker: Any) -> None:
    first, _ = worker("first", 3), worker("second", 5)
    folder, other = RunFolder(tmp_path), RunFolder(tmp_path)
    assert list(folder.orphans()) == [], "both live"
    first.kill()
    orphans = folder.orphans()
    file, points = next(orphans)
    assert (file.instance, file.resource, file.namespaces) == (
        "first",
        {"service.name": "shop"},
        ["shop"],
    )
    assert values_by_name(points)["shop.orders"] == 3
    # A lock belongs to a process, so only another process can show that it is taken.
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(_orphans, (tmp_path,)) == []
    folder.done("first")
    orphans.close()
    assert list(other.orphans()) == []
    assert sum(p.value for p in other.others() if p.metric.name == "shop.orders") == 8  # type: ignore[misc]


def _orphans(folder: Path) -> list[str]:
    return [file.instance for file, _ in RunFolder(folder).orphans()]


def test_unexported_orphan_is_found_again(tmp_path: Path, worker: Any) -> None:
    worker("first", 3).kill()
    folder = RunFolder(tmp_path)
    for _ in range(2):
        assert [file.instance for file, _ in folder.orphans()] == ["first"]


def test_recycled_workers_are_retired_into_one_file_and_no_counter_falls(tmp_path: Path) -> None:
    """Another process writes the files and exits, so that this one holds no lock on them."""
    run = "import sys; from tests.metrics.test_multiprocess import leave; leave(sys.argv[1], 40)"
    subprocess.run(
        [sys.executable, "-c", run, str(tmp_path)], check=True, cwd=Path(__file__).parents[2]
    )
    folder = RunFolder(tmp_path)
    for file, _ in folder.orphans():
        folder.done(file.instance)
    before = _total(folder)
    folder.retire()
    assert len(list(tmp_path.glob("*.series"))) == 0
    assert _total(folder) == before == sum(range(40))
    subprocess.run(
        [sys.executable, "-c", run, str(tmp_path)], check=True, cwd=Path(__file__).parents[2]
    )
    for file, _ in folder.orphans():
        folder.done(file.instance)
    folder.retire()
    assert _total(folder) == 2 * sum(range(40))


def leave(folder: str, workers_: int) -> None:
    for number in range(workers_):
        fill(Registry(FileStorage(Path(folder), f"w{number}", {}, [])), number)


def _total(folder: RunFolder) -> float:
    return sum(p.value for p in folder.others() if p.metric.name == "shop.orders")  # type: ignore[misc]


def test_few_dead_workers_are_not_retired(tmp_path: Path, worker: Any) -> None:
    worker("first", 3).kill()
    folder = RunFolder(tmp_path)
    folder.done("first")
    folder.retire()
    assert (tmp_path / "first.series").exists()
    assert not (tmp_path / "retired.json").exists()


def test_incomplete_last_line_of_killed_worker_hides_no_earlier_series(
    tmp_path: Path, worker: Any
) -> None:
    worker("first", 3).kill()
    with open(tmp_path / "first.series", "a") as file:
        file.write('{"m":0,"a":{"country":"fr"},"o":9')
    assert values_by_name(RunFolder(tmp_path).others())["shop.orders"] == 3


def test_file_is_read_from_last_position(tmp_path: Path, storage: FileStorage) -> None:
    registry = Registry(storage)
    other = RunFolder(tmp_path, own="another")
    orders = registry.instrument(ORDERS)
    for number, country in enumerate(("de", "fr", "it"), 1):
        orders.at({"country": country}).cells[0] = number
        found = {p.key[1][0][1]: p.value for p in other.others() if p.metric.name == ORDERS.name}
        assert found == dict(zip(("de", "fr", "it"), range(1, number + 1), strict=False))
    orders.end({"country": "fr"})
    assert len(other.others()) == 2


def test_more_series_than_fit_one_chunk_are_kept(
    tmp_path: Path, storage: FileStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(multiprocess, "CHUNK_DOUBLES", 512)  # a page
    registry = Registry(storage, limit=5000)
    time = registry.instrument(TIME)
    for number in range(1000):
        time.at({"n": str(number)}).cells[0] = number
    found = RunFolder(tmp_path).others()
    sums = {p.key[1][0][1]: p.value.sum for p in found if isinstance(p.value, HistogramValue)}
    assert sums == {str(number): number for number in range(1000)}


def test_allocated_cells_have_disk_blocks_so_full_disk_raises(
    tmp_path: Path, storage: FileStorage
) -> None:
    """A write to a mapped page without disk blocks would kill the process (SIGBUS)."""
    storage.allocate(ORDERS, (), 1, 0)
    size = (tmp_path / "me.values").stat()
    assert size.st_blocks * 512 >= size.st_size, "the file has its blocks, it is not sparse"


def test_threads_share_new_series_and_lose_no_count(tmp_path: Path, storage: FileStorage) -> None:
    registry = Registry(storage)
    orders = registry.instrument(ORDERS)

    def work(number: int) -> None:
        for other in range(100):
            orders.at({"country": str(other)}).cells[0] += 1

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = [json.loads(line) for line in (tmp_path / "me.series").read_text().splitlines()]
    assert len([line for line in lines if "m" in line]) == 100
    assert sum(p.value for p in RunFolder(tmp_path).others()) == 800  # type: ignore[misc]


def test_files_are_readable_by_owner_only(tmp_path: Path, storage: FileStorage) -> None:
    storage.allocate(ORDERS, (), 1, 0)
    assert {
        oct(os.stat(tmp_path / f"me.{kind}").st_mode & 0o077) for kind in ("values", "lock")
    } == {"0o0"}
