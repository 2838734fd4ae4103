"""Samples what the containers use, every so many seconds."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from telemetry.services.platform.sampling import engine_stats
from telemetry.services.platform.sampling.kernel_files import Files
from telemetry.services.platform.sampling.metrics import Series
from telemetry.services.platform.sampling.reading import Reading, Unreadable, Vanished
from telemetry.services.platform.sampling.totals import Counts
from telemetry.services.platform.state.desired import ContainerEvent
from telemetry.services.platform.state.observed import Containers, ContainerState
from telemetry.system.docker_engine import Engine, EngineAbsent

INTERVAL_S = 15.0
_log = logging.getLogger(__name__)


class Sampler:
    """Samples the running containers of a view, in a thread of its own.

    Args:
        engine: asked where the kernel's files can't be read.
        view: the containers; their use is written into it.
        series: what is exported.
        counts: OOM kills that no event told of are counted.
        interval_s: seconds between samples.
        files: the kernel's files.
        ended: told of each container whose files say that it ended: where Docker itself went
            down, nobody else will tell.
    """

    def __init__(
        self,
        engine: Engine,
        view: Containers,
        series: Series,
        counts: Counts,
        interval_s: float = INTERVAL_S,
        files: Files | None = None,
        ended: Callable[[ContainerState], None] = lambda state: None,
    ) -> None:
        self._engine = engine
        self._view = view
        self._series = series
        self._counts = counts
        self._interval_s = interval_s
        self._files = files or Files()
        self._ended = ended
        self._before: dict[str, tuple[str, Reading]] = {}  # id to run and its last reading
        self._engine_answers = True
        self._stopping = False
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to sample."""
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="telemetry-sampler", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End it; waits for the pass that is under way."""
        self._stopping = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(self._interval_s)
            self._thread = None

    def happened(self, event: ContainerEvent) -> None:
        """A listener: what has just started is sampled at once. Its memory shows, and CPU use
        has a first reading to count from."""
        if event.action == "start":
            self._wake.set()

    def _run(self) -> None:
        due = time.monotonic()
        while not self._stopping:
            regular = time.monotonic() >= due
            try:
                self._collect(self._running() if regular else self._new())
            except Exception:
                _log.exception("platform: a pass of the sampler failed; the next one is due")
            # Passes that took too long are left out, not made up for.
            while due <= time.monotonic():
                due += self._interval_s
            self._wake.wait(due - time.monotonic())
            self._wake.clear()

    def collect_once(self) -> int:
        """Sample every running container once. Blocks.

        Returns:
            How many could be sampled.
        """
        return self._collect(self._running())

    def _running(self) -> list[ContainerState]:
        return [state for state in self._view.all() if state.pid]

    def _new(self) -> list[ContainerState]:
        return [s for s in self._running() if self._before.get(s.id, ("",))[0] != s.started_at]

    def _collect(self, running: list[ContainerState]) -> int:
        sampled = 0
        unreadable = []
        for state in running:
            try:
                self._take(state, self._files.read(state))
                sampled += 1
            except Unreadable:
                unreadable.append(state)
            except Vanished:
                self._skip(state)
                if self._files.gone(state):
                    self._ended(state)
        if unreadable:
            sampled += self._ask(unreadable)
        ids = {state.id for state in self._running()}
        self._files.keep(ids)
        self._before = {id: before for id, before in self._before.items() if id in ids}
        return sampled

    def _ask(self, states: list[ContainerState]) -> int:
        sampled = 0
        try:
            for state, reading in engine_stats.read_all(self._engine, states):
                if reading is None:
                    self._skip(state)
                else:
                    self._take(state, reading)
                    sampled += 1
            self._engine_answers = True
        except EngineAbsent as error:
            if self._engine_answers:
                _log.warning("platform: %d containers not sampled: %s", len(states), error.message)
            self._engine_answers = False
        return sampled

    def _skip(self, state: ContainerState) -> None:
        _log.warning(
            "platform: container %s (%s) ended while it was sampled; skipped",
            state.handle,
            state.id[:12],
        )

    def _take(self, state: ContainerState, reading: Reading) -> None:
        run, before = self._before.get(state.id, ("", None))
        cpu_percent = reading.cpu_percent(before) if run == state.started_at else None
        self._before[state.id] = (state.started_at, reading)
        if reading.oom_kills is not None:
            self._counts.sampled(state.handle, state.started_at, reading.oom_kills)
        fields = {} if cpu_percent is None else {"cpu_percent": cpu_percent}
        self._view.sample(
            state,
            memory_bytes=reading.memory_bytes,
            memory_limit_bytes=reading.memory_limit_bytes,
            receive_bytes=reading.receive_bytes,
            transmit_bytes=reading.transmit_bytes,
            **fields,
        )
        totals = self._counts.totals(state.handle)
        self._series.sample(state, reading, cpu_percent, totals.oom_kills)
