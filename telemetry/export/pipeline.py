"""The pipeline of a process: what is counted and logged goes out from here.

One per process, started with the app, started anew in a fork's child. Exports run in a
thread of their own; what they take, and whether they work at all, is nothing to a request.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import threading
import time
import uuid
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from opentelemetry.sdk.metrics.export import MetricReader
from opentelemetry.sdk.resources import Resource

from telemetry.export import orphans, traces
from telemetry.export.export_loop import ExportLoop
from telemetry.export.sender import Sender
from telemetry.export.shown import Shown
from telemetry.metrics import process
from telemetry.metrics.derived import NamespacedHTTP
from telemetry.metrics.multiprocess import FileStorage, RunFolder
from telemetry.metrics.points import Point
from telemetry.metrics.registry import MemoryStorage, Registry
from telemetry.metrics.sdk_meters import Meters
from telemetry.otlp.exporter_logs import Outage
from telemetry.otlp.exporters import exporters
from telemetry.settings.library import Settings

if TYPE_CHECKING:
    from telemetry.logs.pipeline import LogPipeline

FINISH_TIMEOUT_S = 3.0  # how long an exiting process waits for its last export; a judgement
FORK_TIMEOUT_S = 1.0  # how long a fork waits for a collection under way; it takes milliseconds

_log = logging.getLogger(__name__)


class Pipeline:
    """Collects and exports for one process.

    Args:
        settings: what the environment says.
        registry: the series of this process.
        service_name: name where the environment gives none.
        resource: further resource attributes.
    """

    def __init__(
        self,
        settings: Settings,
        registry: Registry,
        *,
        service_name: str = "",
        resource: Mapping[str, str] | None = None,
    ) -> None:
        self.settings = settings
        self.registry = registry
        self.registry.limit = settings.cardinality_limit
        self.started = False
        self.logs: LogPipeline | None = None
        self._service_name = settings.service_name or service_name
        self._extra = dict(resource or {})
        self._lock = threading.RLock()
        self._provided = False
        self._lag = process.LoopLag(registry)
        self.resource = Resource({})
        self._meters = Meters()
        self.shown = Shown(registry, self._meters)
        self._is_child = self._holding = False
        self._gave_up = False
        self._reset()
        _pipelines.add(self)

    def _reset(self) -> None:
        self.shown.folder = None
        self._sender: Sender | None = None
        self._loop: ExportLoop | None = None

    # --- life ------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to export; does nothing when already begun. Never raises."""
        if self.registry.isolated:
            return
        if not self.started:
            with self._lock:
                if not self.started:
                    try:
                        self._start()
                    except Exception:
                        _log.exception("telemetry: could not start; the app runs without it")
                    self.started = True
        try:
            self._lag.follow()
        except RuntimeError:
            pass  # no event loop here: an agent or a script

    def _start(self) -> None:
        if self.settings.disabled:
            return
        self.resource = self._own_resource()
        if self.settings.run_dir is not None:
            self._share(self.settings.run_dir)
        if not self.registry.samplers:
            process.watch(self.registry)
        if not self._provided:
            self._provide()
        self._start_logs()
        if found := exporters(self.settings, "metrics"):
            outage = Outage("metrics", self.settings.otlp("METRICS").address)
            timeout_s = self.settings.export_timeout_s
            self._sender = sender = Sender(found, self.registry, timeout_s, outage)
            self._loop = ExportLoop(
                self.settings.export_interval_s, lambda: self._export_safely(sender)
            )

    def _own_resource(self) -> Resource:
        # A fork's child takes the parent's: to find out anew the SDK takes a thread pool, whose
        # lock is still held while the process forks.
        resource = self.resource
        if not self._is_child or not resource.attributes:
            given = dict(self._extra)
            if self._service_name:
                given.setdefault("service.name", self._service_name)
            resource = Resource.create(given)
        # One id per process, whatever the environment says: workers must not write over
        # each other's series.
        instance = resource.attributes.get("service.instance.id") or str(uuid.uuid4())
        if self.settings.run_dir is not None or self._is_child:
            instance = str(uuid.uuid4())
        return resource.merge(Resource({"service.instance.id": str(instance)}))

    def _share(self, folder: Path) -> None:
        instance = str(self.resource.attributes["service.instance.id"])
        attributes = {k: str(v) for k, v in self.resource.attributes.items()}
        try:
            namespaces = list(self.registry.derivations)
            storage = FileStorage(folder, instance, attributes, namespaces)
            self.registry.move(storage, keep=True)
            self.shown.folder = RunFolder(folder, own=instance)
        except OSError as error:
            _log.warning(
                "telemetry: run folder %s can't be used (%s); this worker counts for itself",
                folder,
                error,
            )

    def _provide(self) -> None:
        """What there is one of, whoever forks."""
        self._provided = True
        readers: list[MetricReader] = []
        if "prometheus" in self.settings.metrics_exporters:
            from telemetry.export import metrics_server

            own_points = self.shown.own_points
            readers.append(metrics_server.prometheus_reader(self.settings.environ, own_points))
        self._meters.provide(self.resource, readers)
        if self.settings.traces_exporters:
            traces.provide(self.settings, self.resource)
        if self.settings.metrics_port:
            from telemetry.export import metrics_server

            metrics_server.serve_metrics(self.shown.page, self.settings.metrics_port)
        atexit.register(self.finish)

    def _start_logs(self) -> None:
        if not self.settings.logs_exporters:
            return
        from telemetry.logs.pipeline import attach

        if self.logs is None:
            self.logs = attach(self.settings, self.resource)
        else:
            self.logs.after_fork(self.settings, self.resource)

    def before_fork(self) -> None:
        """In the parent, about to fork."""
        self._holding = self._meters.collecting.acquire(timeout=FORK_TIMEOUT_S)

    def after_fork_in_parent(self) -> None:
        """In the parent, once it has forked."""
        if self._holding:
            self._meters.collecting.release()

    def after_fork_in_child(self) -> None:
        """In a fork's child: a pipeline of its own, where the parent's had begun."""
        if self._holding:
            self._meters.collecting.release()
        was_started = self.started
        self._is_child = True
        self._lock = threading.RLock()
        self._reset()
        self.started = False
        self.registry.after_fork()
        if was_started:
            self.start()

    def finish(self) -> None:
        """Export what is left, within `FINISH_TIMEOUT_S`. May be called more than once: at the
        app's shutdown and at the process's end."""
        if not self.started or self.settings.disabled:
            return
        self.registry.end_where(lambda series: series.metric.kind == "updowncounter")
        # Where nobody took it the first time, the process's end doesn't wait a second time.
        deadline = time.monotonic() + (0.1 if self._gave_up else FINISH_TIMEOUT_S)
        done = self.flush_metrics(deadline - time.monotonic())
        if done and self.shown.folder is not None:
            self.shown.folder.done(self.shown.folder.own)
        if self.logs is not None:
            done = self.logs.flush(max(0.1, deadline - time.monotonic())) and done
        if self.settings.traces_exporters:
            traces.flush(max(0.1, deadline - time.monotonic()))
        self._gave_up = not done

    # --- export ----------------------------------------------------------------------------

    def flush_metrics(self, timeout_s: float = 5.0) -> bool:
        """Export all metrics now; False if that failed or took longer. Blocks."""
        return self._loop is None or self._loop.flush(timeout_s)

    def flush(self, timeout_s: float = 5.0) -> bool:
        """Export all metrics and logs now; False if that failed or took longer. Blocks."""
        deadline = time.monotonic() + timeout_s
        done = self.flush_metrics(timeout_s)
        if self.logs is not None:
            done = self.logs.flush(max(0.1, deadline - time.monotonic())) and done
        return done

    def shutdown(self) -> None:
        """Export what is left and stop. For tests and scripts; an app's end does it by itself."""
        _pipelines.discard(self)
        atexit.unregister(self.finish)
        self.finish()
        if self._loop is not None and self._sender is not None:
            self._loop.stop()
            self._sender.shutdown()
            self._loop.join(FINISH_TIMEOUT_S)
        if self.logs is not None:
            self.logs.shutdown()
        if isinstance(self.registry.storage, FileStorage):
            # What was counted stays in its file; what comes after begins anew.
            storage = self.registry.storage
            self.registry.move(MemoryStorage(), keep=False)
            storage.close()
            self.shown.folder = None
        self._sender = self._loop = self.logs = None

    def _export_safely(self, sender: Sender) -> bool:
        if self.registry.isolated:
            return True
        try:
            return self._export(sender)
        except Exception:
            with contextlib.suppress(Exception):  # a handler of the app's
                _log.exception("telemetry: an export of metrics failed")
            return False

    def _export(self, sender: Sender) -> bool:
        points = self.registry.points()
        ended = self.registry.take_ended()
        own = [*points, *self.registry.derived(points), *ended]
        batches = [(self.resource, own), *self._led()]
        done = sender.send(batches, self._meters.collect_as(self.resource))
        if done:
            sender.forget(str(self.resource.attributes["service.instance.id"]), ended)
        else:
            self.registry.restore_ended(ended)
        if self.shown.folder is not None:
            orphans.export_orphans(self.shown.folder, sender.send)
            self.shown.folder.retire()
        return done

    def _led(self) -> list[tuple[Resource, list[Point]]]:
        """Batches of the sources that this process reports for."""
        found = []
        for source in tuple(self.registry.sources):
            try:
                if source.leads():
                    resource = self.resource.merge(Resource(dict(source.resource)))
                    found.append((resource, list(source.collect())))
            except Exception:
                _log.exception("telemetry: source %r could not be collected", source)
                self.registry.dropped("metrics", "source_failed")
        return found

    def add_namespace(self, namespace: str) -> None:
        """Show the HTTP metrics under ``namespace`` as well."""
        self.registry.derivations[namespace] = NamespacedHTTP(namespace)


_pipelines: weakref.WeakSet[Pipeline] = weakref.WeakSet()


def _each(step: str) -> None:
    for pipeline in tuple(_pipelines):
        getattr(pipeline, step)()


os.register_at_fork(
    before=lambda: _each("before_fork"),
    after_in_parent=lambda: _each("after_fork_in_parent"),
    after_in_child=lambda: _each("after_fork_in_child"),
)
