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
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opentelemetry import context
from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult, MetricReader
from opentelemetry.sdk.resources import Resource

from telemetry.export import orphans, traces
from telemetry.export.exposition import Renderer
from telemetry.metrics import process
from telemetry.metrics.derived import NamespacedHTTP
from telemetry.metrics.multiprocess import FileStorage, RunFolder
from telemetry.metrics.points import Attributes, Point, merged
from telemetry.metrics.registry import MemoryStorage, Registry
from telemetry.metrics.sdk_meters import Meters
from telemetry.otlp import points as otlp_points
from telemetry.otlp.exporter_logs import Outage
from telemetry.settings.library import Settings

if TYPE_CHECKING:
    from telemetry.logs.pipeline import LogPipeline

FINISH_TIMEOUT_S = 3.0  # how long an exiting process waits for its last export; a judgement
FORK_TIMEOUT_S = 1.0  # how long a fork waits for a collection under way; it takes milliseconds

_log = logging.getLogger(__name__)
# https://github.com/open-telemetry/opentelemetry-python/blob/main/opentelemetry-api/src/opentelemetry/context
_SUPPRESS = "suppress_instrumentation"


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
        self.renderer = Renderer()
        self.started = False
        self.logs: LogPipeline | None = None
        self._service_name = settings.service_name or service_name
        self._extra = dict(resource or {})
        self._lock = threading.RLock()
        self._provided = False
        self.exporters: list[MetricExporter] = []
        self._outage = Outage("metrics", settings.otlp("METRICS").address)
        self._lag = process.LoopLag(registry)
        self.resource = Resource({})
        self._meters = Meters()
        self._is_child = self._holding = False
        self._gave_up = False
        self._reset()
        _pipelines.add(self)

    def _reset(self) -> None:
        self._wanted = threading.Condition()
        self._asked = self._served = 0
        self._worked = True
        self._stopping = False
        self._exported: set[tuple[str, tuple[str, Attributes]]] = set()
        self._folder: RunFolder | None = None
        self._thread: threading.Thread | None = None

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
        self.exporters = otlp_points.exporters(self.settings)
        if not self._provided:
            self._provide()
        self._start_logs()
        if self.exporters:
            self._thread = threading.Thread(target=self._run, name="telemetry-metrics", daemon=True)
            self._thread.start()

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
            self._folder = RunFolder(folder, own=instance)
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

            readers.append(metrics_server.prometheus_reader(self))
        self._meters.provide(self.resource, readers)
        if self.settings.traces_exporters:
            traces.provide(self.settings, self.resource)
        if self.settings.metrics_port:
            from telemetry.export import metrics_server

            metrics_server.serve_metrics(self, self.settings.metrics_port)
        atexit.register(self.finish)

    def _start_logs(self) -> None:
        if not self.settings.logs_exporters:
            return
        from telemetry.logs import pipeline as logs_pipeline

        if self.logs is None:
            self.logs = logs_pipeline.attach(self.settings, self.resource)
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
        if done and self._folder is not None:
            self._folder.done(self._folder.own)
        if self.logs is not None:
            done = self.logs.flush(max(0.1, deadline - time.monotonic())) and done
        if self.settings.traces_exporters:
            traces.flush(max(0.1, deadline - time.monotonic()))
        self._gave_up = not done

    # --- export ----------------------------------------------------------------------------

    def flush_metrics(self, timeout_s: float = 5.0) -> bool:
        """Export all metrics now; False if that failed or took longer. Blocks."""
        if not self.exporters or self._thread is None:
            return True
        with self._wanted:
            self._asked += 1
            mine = self._asked
            self._wanted.notify_all()
            in_time = self._wanted.wait_for(lambda: self._served >= mine, timeout_s)
            return in_time and self._worked

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
        with self._wanted:
            self._stopping = True
            self._wanted.notify_all()
        for exporter in self.exporters:
            exporter.shutdown()
        if self._thread is not None:
            self._thread.join(FINISH_TIMEOUT_S)
        if self.logs is not None:
            self.logs.shutdown()
        if isinstance(self.registry.storage, FileStorage):
            # What was counted stays in its file; what comes after begins anew.
            storage = self.registry.storage
            self.registry.move(MemoryStorage(), keep=False)
            storage.close()
            self._folder = None
        self.exporters, self._thread, self.logs = [], None, None

    def _run(self) -> None:
        # What the exporter itself logs or sends is not to be instrumented.
        context.attach(context.set_value(_SUPPRESS, True))
        while True:
            with self._wanted:
                self._wanted.wait_for(
                    lambda: self._stopping or self._asked > self._served,
                    self.settings.export_interval_s,
                )
                if self._stopping:
                    return
                asked = self._asked
            worked = self._export_safely()
            with self._wanted:
                self._served, self._worked = asked, worked
                self._wanted.notify_all()

    def _export_safely(self) -> bool:
        if self.registry.isolated:
            return True
        try:
            done = self._export()
            self._export_orphans()
            return done
        except Exception:
            with contextlib.suppress(Exception):  # a handler of the app's
                _log.exception("telemetry: an export of metrics failed")
            return False

    def _export(self) -> bool:
        points = self.registry.points()
        ended = self.registry.take_ended()
        own = [*points, *self.registry.derived(points), *ended]
        done = self.send([(self.resource, own), *self._led()], self._meters.under(self.resource))
        if done:
            instance = str(self.resource.attributes["service.instance.id"])
            self._exported -= {(instance, point.key) for point in ended}
        else:
            self.registry.give_back_ended(ended)
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

    def send(
        self, batches: Sequence[tuple[Resource, Sequence[Point]]], sdk: Sequence[Any] = ()
    ) -> bool:
        """Export these points now; False if that failed. Blocks."""
        now = time.time_ns()
        fresh: set[tuple[str, tuple[str, Attributes]]] = set()

        def is_new(instance: str, key: tuple[str, Attributes]) -> bool:
            seen = (instance, key) in self._exported
            if not seen:
                fresh.add((instance, key))
            return not seen

        ours = otlp_points.to_sdk(batches, now, is_new)
        data = otlp_points.combined([*ours.resource_metrics, *sdk])
        if not data.resource_metrics:
            return True
        timeout = self.settings.export_timeout_s * 1000
        results = [exporter.export(data, timeout_millis=timeout) for exporter in self.exporters]
        done = all(result is MetricExportResult.SUCCESS for result in results)
        if done:
            self._exported |= fresh
        else:
            self.registry.dropped("metrics", "export_failed", sum(len(p) for _, p in batches))
        self._outage.tell(done)
        return done

    def _export_orphans(self) -> None:
        if self._folder is None:
            return
        orphans.export_orphans(self._folder, self)
        self._folder.retire()

    # --- shown -----------------------------------------------------------------------------

    def shown_points(self) -> list[Point]:
        """What `/metrics` shows: this process, its siblings living and gone, the sources, and
        what the app recorded with the OpenTelemetry API."""
        recorded = merged(otlp_points.from_sdk(self._meters.collect()))
        if self._folder is not None:
            # The SDK counts for this worker alone; unlabelled, its counters would seem to fall
            # whenever another worker answers.
            worker = {"worker": str(os.getpid())}
            recorded = [replace(p, attributes=dict(p.key[1]) | worker) for p in recorded]
        return [*self.own_points(), *recorded]

    def own_points(self) -> list[Point]:
        """`shown_points` without what went through the OpenTelemetry API."""
        points = self.registry.points()
        if self._folder is not None:
            points = merged([*points, *self._folder.others()])
        points += self.registry.derived(points)
        for source in tuple(self.registry.sources):
            try:
                points += source.collect()
            except Exception:
                _log.exception("telemetry: source %r could not be collected", source)
        return points

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
