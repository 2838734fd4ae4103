"""What the containers of a machine do: sampled, watched, counted and exported."""

from __future__ import annotations

from collections.abc import Sequence

from telemetry.services.platform.sampling.metrics import Series
from telemetry.services.platform.sampling.reconciler import Listener, Roster
from telemetry.services.platform.sampling.sampler import INTERVAL_S, Sampler
from telemetry.services.platform.sampling.totals import Counts
from telemetry.services.platform.sampling.watcher import Watcher
from telemetry.services.platform.state.desired import Desired
from telemetry.services.platform.state.observed import Containers, ContainerState
from telemetry.system.docker_engine import Engine

__all__ = ["Monitor", "Sampler", "Watcher"]


class Monitor:
    """Sampler and watcher over one view.

    Args:
        engine: the Docker engine; may be absent, may come and go.
        desired: what is to be.
        view: what is; filled here.
        listeners: told of every event, after the view has it, in the watcher's thread.
        interval_s: seconds between samples.
    """

    def __init__(
        self,
        engine: Engine,
        desired: Desired,
        view: Containers,
        listeners: Sequence[Listener] = (),
        interval_s: float = INTERVAL_S,
    ) -> None:
        series, counts = Series(), Counts(desired)
        series.statuses(())
        self.sampler = Sampler(engine, view, series, counts, interval_s, ended=self._ended)
        told = (self.sampler.happened, *listeners)
        self.watcher = Watcher(engine, Roster(engine, desired, view, series, counts, told))

    def start(self) -> None:
        """Begin."""
        self.watcher.start()
        self.sampler.start()

    def stop(self) -> None:
        """End both; waits for what is under way."""
        self.sampler.stop()
        self.watcher.stop()

    def look(self, handle: str) -> None:
        """Look at a handle's container anew; its desired state has changed."""
        self.watcher.look(handle)

    def _ended(self, state: ContainerState) -> None:
        self.watcher.look(state.handle, ended=state)
