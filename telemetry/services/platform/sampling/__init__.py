"""Sample and watch a machine's containers, count and export what they do."""

from __future__ import annotations

from collections.abc import Sequence

from telemetry.services.platform.sampling.metrics import ContainerSeries
from telemetry.services.platform.sampling.reconciler import Listener, Reconciler
from telemetry.services.platform.sampling.sampler import INTERVAL_S, Sampler
from telemetry.services.platform.sampling.totals import TotalsCounter
from telemetry.services.platform.sampling.watcher import Watcher
from telemetry.services.platform.state.desired import DesiredState
from telemetry.services.platform.state.observed import ContainerState, ObservedState
from telemetry.system.docker_engine import Engine

__all__ = ["Monitor", "Sampler", "Watcher"]


class Monitor:
    """A sampler and a watcher that share one observed state.

    Args:
        engine: the Docker engine; may be absent, may come and go.
        desired: the desired state.
        observed: the observed state; filled here.
        listeners: called with every event, after the observed state has it, in the watcher's
            thread.
        interval_s: seconds between samples.
    """

    def __init__(
        self,
        engine: Engine,
        desired: DesiredState,
        observed: ObservedState,
        listeners: Sequence[Listener] = (),
        interval_s: float = INTERVAL_S,
    ) -> None:
        series, totals = ContainerSeries(), TotalsCounter(desired)
        series.set_statuses(())
        self.sampler = Sampler(
            engine, observed, series, totals, interval_s, on_ended=self._on_ended
        )
        reconciler = Reconciler(
            engine, desired, observed, series, totals, (self.sampler.on_event, *listeners)
        )
        self.watcher = Watcher(engine, reconciler)

    def start(self) -> None:
        """Start both."""
        self.watcher.start()
        self.sampler.start()

    def stop(self) -> None:
        """Stop both; waits for the pass in progress."""
        self.sampler.stop()
        self.watcher.stop()

    def reconcile(self, handle: str) -> None:
        """Reconcile a handle, since its desired state has changed."""
        self.watcher.reconcile(handle)

    def _on_ended(self, state: ContainerState) -> None:
        self.watcher.reconcile(state.handle, ended=state)
