"""Memory-mapped cells, so that any worker can report totals for all, killed ones included.

A run folder (TELEMETRY_RUN_DIR) has these files of each process that recorded anything:

    <instance>.values   doubles, memory-mapped by the process in chunks
    <instance>.series   JSON lines: a header, metrics, series with their offsets, ended series
    <instance>.lock     locked while the process lives; the kernel unlocks it when it dies
    <instance>.done     exists once the process's last values have been exported

It also has ``retired.json``, the sum of all retired workers. So recycled workers don't leave
thousands of files, and no counter ever falls within one run.
"""

from __future__ import annotations

import errno
import json
import mmap
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from telemetry.catalog import Metric
from telemetry.metrics.points import Attributes, HistogramValue, Point, canonical, merged
from telemetry.metrics.registry import Cells
from telemetry.system import file_locks
from telemetry.system.atomic_files import replace_file

CHUNK_DOUBLES = 8192  # 64 KiB: a whole number of pages everywhere, 500 histogram series
_FOLDER_LOCK = "folder.lock"
# Exited workers that keep files of their own. Chosen by judgement, not measured.
RETIRE_ABOVE = 16


class FileStorage:
    """Storage of this process's cells in the run folder.

    Args:
        folder: the run folder, which exists with mode 0700.
        instance: this process's service.instance.id, also the stem of the files' names.
        resource: resource attributes, for the process that exports the last values.
        namespaces: namespaces of the HTTP metrics, for the same process.
    """

    def __init__(
        self,
        folder: Path,
        instance: str,
        resource: Mapping[str, str],
        namespaces: Sequence[str] = (),
    ) -> None:
        self.instance = instance
        # Locked before the other files exist, so that no process takes their owner for dead.
        self._lock = file_locks.claim(folder / f"{instance}.lock")
        self._values = os.open(
            folder / f"{instance}.values", os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600
        )
        # Created last, because other processes look for this name. Unbuffered, because a buffer
        # has a lock: if another thread writes during a fork, it stays locked in the child.
        self._series = os.open(
            folder / f"{instance}.series", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600
        )
        self._chunk: memoryview[float] | None = None
        self._chunks = 0
        self._used = 0
        self._metrics: dict[str, int] = {}
        self._offsets: dict[int, int] = {}
        self._write({"resource": dict(resource), "namespaces": list(namespaces)})

    def allocate(
        self, metric: Metric, attributes: Attributes, size: int, start_time_ns: int
    ) -> memoryview[float]:
        if self._chunk is None or self._used + size > CHUNK_DOUBLES:
            self._chunk = self._next_chunk()
        cells = self._chunk[self._used : self._used + size]
        offset = (self._chunks - 1) * CHUNK_DOUBLES + self._used
        self._used += size
        if metric.name not in self._metrics:
            self._write({"metric": _metric_to_json(metric)})
            self._metrics[metric.name] = len(self._metrics)
        self._write(
            {
                "m": self._metrics[metric.name],
                "a": dict(attributes),
                "o": offset,
                "n": size,
                "t": start_time_ns,
            }
        )
        self._offsets[id(cells)] = offset
        return cells

    def end(self, cells: Cells) -> None:
        offset = self._offsets.pop(id(cells), None)
        if offset is not None:
            self._write({"end": offset})

    def close(self) -> None:
        """Close the files and keep their content. The mappings stay valid for late writers. In a
        forked child this does not unlock the parent's file: the lock belongs to a process."""
        os.close(self._series)
        os.close(self._values)
        os.close(self._lock)

    def _next_chunk(self) -> memoryview[float]:
        size = CHUNK_DOUBLES * 8
        # Written, not truncated to a larger size: a full disk is then an error here, which can
        # be handled, and not a SIGBUS when a request is counted.
        if os.pwrite(self._values, bytes(size), self._chunks * size) < size:
            raise OSError(errno.ENOSPC, "no room for more series")
        mapped = mmap.mmap(self._values, size, offset=self._chunks * size)
        self._chunks += 1
        self._used = 0
        return memoryview(mapped).cast("d")

    def _write(self, line: dict[str, Any]) -> None:
        data = (json.dumps(line, separators=(",", ":")) + "\n").encode()
        size = os.fstat(self._series).st_size
        if os.write(self._series, data) < len(data):
            os.ftruncate(self._series, size)  # half a line would corrupt the next one
            raise OSError(errno.ENOSPC, "no room for more series")


@dataclass
class WorkerFile:
    """Another process's files, with the position up to which they have been read."""

    path: Path
    resource: dict[str, str] = field(default_factory=dict)
    namespaces: list[str] = field(default_factory=list)
    _position: int = 0
    _metrics: list[Metric] = field(default_factory=list)
    _series: dict[int, tuple[Metric, Attributes, int, int]] = field(default_factory=dict)
    # Two scrapes and the export thread may read at the same time.
    _reading: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    @property
    def instance(self) -> str:
        return self.path.stem

    def points(self) -> list[Point]:
        """Read the current values."""
        with self._reading:
            self._read_series()
            series = list(self._series.items())
        values = memoryview(self.path.with_suffix(".values").read_bytes()).cast("d")
        found = []
        for offset, (metric, attributes, size, start) in series:
            cells = values[offset : offset + size].tolist()
            if len(cells) < size:
                continue  # the series is registered, but the values file has not grown yet
            value = HistogramValue(cells[0], cells[1:]) if metric.buckets else cells[0]
            found.append(Point(metric, attributes, value, start))
        return found

    def _read_series(self) -> None:
        with open(self.path, "rb") as file:
            file.seek(self._position)
            data = file.read()
        # Skip an incomplete line: its process is writing it, or died while writing it.
        complete = data[: data.rfind(b"\n") + 1]
        self._position += len(complete)
        for text in complete.splitlines():
            line = json.loads(text)
            if "m" in line:
                series = (self._metrics[line["m"]], canonical(line["a"]), line["n"], line["t"])
                self._series[line["o"]] = series
            elif "metric" in line:
                self._metrics.append(_metric_from_json(line["metric"]))
            elif "end" in line:
                self._series.pop(line["end"], None)
            else:
                self.resource, self.namespaces = line["resource"], line["namespaces"]


class RunFolder:
    """Files of all workers of one run.

    Args:
        folder: the run folder.
        own: this process's instance id; "" if it records nothing itself.
    """

    def __init__(self, folder: Path, own: str = "") -> None:
        self.folder = folder
        self.own = own
        self._files: dict[Path, WorkerFile] = {}

    def others(self) -> list[Point]:
        """Read the other workers' points: all of a live worker, the totals of a dead one."""
        with file_locks.locked(self.folder / _FOLDER_LOCK, shared=True):
            points = _read_retired(self.folder)
            for file in self._workers():
                alive = not self._is_dead(file)
                points += [p for p in file.points() if alive or _is_total(p)]
        return points

    def orphans(self) -> Iterator[tuple[WorkerFile, list[Point]]]:
        """Find dead workers with last values that have not been exported.

        Each is locked while it is yielded, so that only one process exports it. Call `done` when
        its values have been exported.
        """
        for file in self._workers():
            if file.path.with_suffix(".done").exists():
                continue
            with file_locks.abandoned(file.path.with_suffix(".lock")) as dead:
                if dead and not file.path.with_suffix(".done").exists():
                    yield file, file.points()

    def done(self, instance: str) -> None:
        """Mark the last values of ``instance`` as exported."""
        (self.folder / f"{instance}.done").touch(mode=0o600)

    def retire(self) -> None:
        """Add the files of dead, exported workers to ``retired.json`` and delete them."""
        gone = [f for f in self._workers() if f.path.with_suffix(".done").exists()]
        gone = [f for f in gone if self._is_dead(f)]
        if len(gone) <= RETIRE_ABOVE:
            return
        with file_locks.locked(self.folder / _FOLDER_LOCK):
            gone = [f for f in gone if f.path.exists()]  # another worker may have retired some
            points = _read_retired(self.folder)
            for file in gone:
                points += [p for p in file.points() if _is_total(p)]
            _write_retired(self.folder, merged(points))
            for file in gone:
                for suffix in (".series", ".values", ".lock", ".done"):
                    file.path.with_suffix(suffix).unlink(missing_ok=True)

    def _workers(self) -> list[WorkerFile]:
        found = {}
        for path in sorted(self.folder.glob("*.series")):
            if path.stem != self.own:
                found[path] = self._files.get(path) or WorkerFile(path)
        self._files = found
        return list(found.values())

    def _is_dead(self, file: WorkerFile) -> bool:
        with file_locks.abandoned(file.path.with_suffix(".lock")) as dead:
            return dead


def _is_total(point: Point) -> bool:
    """Decide whether a point still counts when its worker is dead. Current values and series
    that describe the worker itself don't."""
    keys = dict(point.attributes)
    return point.metric.kind in ("counter", "histogram") and "worker" not in keys


def _metric_to_json(metric: Metric) -> dict[str, Any]:
    return {
        "name": metric.name,
        "kind": metric.kind,
        "unit": metric.unit,
        "description": metric.description,
        "attributes": metric.attributes,
        "buckets": metric.buckets,
    }


def _metric_from_json(data: dict[str, Any]) -> Metric:
    return Metric(
        data["name"],
        data["kind"],
        data["unit"],
        data["description"],
        tuple(data["attributes"]),
        tuple(data["buckets"]),
    )


def _read_retired(folder: Path) -> list[Point]:
    try:
        lines = json.loads((folder / "retired.json").read_bytes())
    except FileNotFoundError:
        return []
    points = []
    for line in lines:
        value = line["v"]
        if isinstance(value, list):
            value = HistogramValue(value[0], value[1:])
        metric = _metric_from_json(line["m"])
        points.append(Point(metric, canonical(line["a"]), value, line["t"]))
    return points


def _write_retired(folder: Path, points: list[Point]) -> None:
    lines = []
    for point in points:
        value = point.value
        lines.append(
            {
                "m": _metric_to_json(point.metric),
                "a": dict(point.attributes),
                "v": [value.sum, *value.buckets] if isinstance(value, HistogramValue) else value,
                "t": point.start_time_ns,
            }
        )
    replace_file(folder / "retired.json", json.dumps(lines))
