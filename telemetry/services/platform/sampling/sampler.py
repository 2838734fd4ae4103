"""Sample what the containers use, once an interval."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from telemetry.services.platform.sampling import engine_stats
from telemetry.services.platform.sampling.kernel_files import KernelFiles
from telemetry.services.platform.sampling.metrics import ContainerSeries
from telemetry.services.platform.sampling.reading import Reading, Unreadable, Vanished
from telemetry.services.platform.sampling.totals import TotalsCounter
from telemetry.services.platform.state.desired import ContainerEvent
from telemetry.services.platform.state.observed import ContainerState, ObservedState
from telemetry.system.docker_engine import Engine, EngineAbsent

INTERVAL_S = 15.0
_log = logging.getLogger(__name__)


class Sampler:
    """Samples the running containers, in a thread of its own.

    Args:
        engine: asked if the kernel's files can't be read.
        observed: the containers; samples are written into it.
        series: what is exported.
        totals: OOM kills that no event reported are counted here.
        interval_s: seconds between samples.
        files: the kernel's files.
        on_ended: called with each container whose files say that it ended. If Docker itself went
            down, nothing else reports it.
    """

    def __init__(
        self,
        engine: Engine,
        observed: ObservedState,
        series: ContainerSeries,
        totals: TotalsCounter,
        interval_s: float = INTERVAL_S,
        files: KernelFiles | None = None,
        on_ended: Callable[[ContainerState], None] = lambda state: None,
    ) -> None:
        self._engine = engine
        self._observed = observed
        self._series = series
        self._totals = totals
        self._interval_s = interval_s
        self._files = files or KernelFiles()
        self._on_ended = on_ended
        self._before: dict[str, tuple[str, Reading]] = {}  # id to start time and last reading
        self._engine_answers = True
        self._stopping = False
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start sampling."""
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="telemetry-sampler", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop; waits for the pass in progress."""
        self._stopping = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(self._interval_s)
            self._thread = None

    def on_event(self, event: ContainerEvent) -> None:
        """Sample a container as soon as it starts: its memory shows at once, and CPU use has a
        first reading to count from."""
        if event.action == "start":
            self._wake.set()

    def _run(self) -> None:
        due = time.monotonic()
        while not self._stopping:
            regular = time.monotonic() >= due
            try:
                self._collect(self._running() if regular else self._unsampled())
            except Exception:
                _log.exception("platform: a pass of the sampler failed; the next one follows")
            # After a pass that took too long, the passes it delayed are skipped.
            while due <= time.monotonic():
                due += self._interval_s
            self._wake.wait(due - time.monotonic())
            self._wake.clear()

    def collect_once(self) -> int:
        """Sample every running container once. Blocks.

        Returns:
            Number of containers sampled.
        """
        return self._collect(self._running())

    def _running(self) -> list[ContainerState]:
        return [state for state in self._observed.all() if state.pid]

    def _unsampled(self) -> list[ContainerState]:
        return [s for s in self._running() if self._before.get(s.id, ("",))[0] != s.started_at]

    def _collect(self, running: list[ContainerState]) -> int:
        sampled = 0
        unreadable = []
        for state in running:
            try:
                self._record(state, self._files.read(state))
                sampled += 1
            except Unreadable:
                unreadable.append(state)
            except Vanished:
                self._log_skipped(state)
                if self._files.has_ended(state):
                    self._on_ended(state)
        if unreadable:
            sampled += self._sample_by_engine(unreadable)
        ids = {state.id for state in self._running()}
        self._files.keep(ids)
        self._before = {id: before for id, before in self._before.items() if id in ids}
        return sampled

    def _sample_by_engine(self, states: list[ContainerState]) -> int:
        sampled = 0
        try:
            for state, reading in engine_stats.read_all(self._engine, states):
                if reading is None:
                    self._log_skipped(state)
                else:
                    self._record(state, reading)
                    sampled += 1
            self._engine_answers = True
        except EngineAbsent as error:
            if self._engine_answers:
                _log.warning("platform: %d containers not sampled: %s", len(states), error.message)
            self._engine_answers = False
        return sampled

    def _log_skipped(self, state: ContainerState) -> None:
        _log.warning(
            "platform: container %s (%s) ended while it was sampled; skipped",
            state.handle,
            state.id[:12],
        )

    def _record(self, state: ContainerState, reading: Reading) -> None:
        run, before = self._before.get(state.id, ("", None))
        cpu_percent = reading.cpu_percent(before) if run == state.started_at else None
        self._before[state.id] = (state.started_at, reading)
        if reading.oom_kills is not None:
            self._totals.count_kernel_oom_kills(state.handle, state.started_at, reading.oom_kills)
        fields = {} if cpu_percent is None else {"cpu_percent": cpu_percent}
        self._observed.update_sample(
            state,
            memory_bytes=reading.memory_bytes,
            memory_limit_bytes=reading.memory_limit_bytes,
            receive_bytes=reading.receive_bytes,
            transmit_bytes=reading.transmit_bytes,
            **fields,
        )
        totals = self._totals.totals(state.handle)
        self._series.set_sample(state, reading, cpu_percent, totals.oom_kills)
