"""The pipeline of a process: it exports metrics, logs and traces.

There is one per process. It starts with the app, and restarts in forked children. Exports run
in a separate thread, so a slow or failing export never affects a request.
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
from telemetry.export.metrics_page import MetricsPage
from telemetry.export.sender import Sender
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

# The longest that an exiting process waits for its last export. Chosen by judgement, not measured.
FINISH_TIMEOUT_S = 3.0
# The longest that a fork waits for a collection in progress, which takes milliseconds.
FORK_TIMEOUT_S = 1.0

_log = logging.getLogger(__name__)


class Pipeline:
    """Collects and exports for one process.

    Args:
        settings: from the environment.
        registry: the series of this process.
        service_name: used if the environment names no service.
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
        self._started_once = False
        self._lag = process.LoopLag(registry)
        self.resource = Resource({})
        self._meters = Meters()
        self.page = MetricsPage(registry, self._meters)
        self._is_child = self._holding = False
        self._gave_up = False
        self._reset()
        _pipelines.add(self)

    def _reset(self) -> None:
        self.page.folder = None
        self._sender: Sender | None = None
        self._loop: ExportLoop | None = None

    # --- lifecycle -------------------------------------------------------------------------

    def start(self) -> None:
        """Start exporting, unless it has started already. Never raises."""
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
            pass  # no event loop: the host agent, or a script

    def _start(self) -> None:
        if self.settings.disabled:
            return
        self.resource = self._own_resource()
        if self.settings.run_dir is not None:
            self._share(self.settings.run_dir)
        if not self.registry.samplers:
            process.watch(self.registry)
        if not self._started_once:
            self._start_once()
        self._start_logs()
        if found := exporters(self.settings, "metrics"):
            outage = Outage("metrics", self.settings.otlp["metrics"].address)
            timeout_s = self.settings.export_timeout_s
            self._sender = sender = Sender(found, self.registry, timeout_s, outage)
            self._loop = ExportLoop(
                self.settings.export_interval_s, lambda: self._export_safely(sender)
            )

    def _own_resource(self) -> Resource:
        # A forked child uses its parent's. Detecting it again would start the SDK's thread pool,
        # and its lock is still held during the fork.
        resource = self.resource
        if not self._is_child or not resource.attributes:
            given = dict(self._extra)
            if self._service_name:
                given.setdefault("service.name", self._service_name)
            resource = Resource.create(given)
        # One id per process, even if the environment sets one: workers must not overwrite each
        # other's series.
        instance = resource.attributes.get("service.instance.id") or str(uuid.uuid4())
        if self.settings.run_dir is not None or self._is_child:
            instance = str(uuid.uuid4())
        masked = self.settings.redactor.attributes(resource.attributes)
        return Resource({**masked, "service.instance.id": str(instance)}, resource.schema_url)

    def _share(self, folder: Path) -> None:
        instance = str(self.resource.attributes["service.instance.id"])
        attributes = {k: str(v) for k, v in self.resource.attributes.items()}
        try:
            namespaces = list(self.registry.derivations)
            storage = FileStorage(folder, instance, attributes, namespaces)
            self.registry.move(storage, keep=True)
            self.page.folder = RunFolder(folder, own=instance)
        except OSError as error:
            _log.warning(
                "telemetry: run folder %s can't be used (%s); this worker reports only its own "
                "counts",
                folder,
                error,
            )

    def _start_once(self) -> None:
        """Start what a process starts once and forked children share."""
        self._started_once = True
        readers: list[MetricReader] = []
        if "prometheus" in self.settings.metrics_exporters:
            from telemetry.export import metrics_server

            host, port = self.settings.prometheus_host, self.settings.prometheus_port
            readers.append(metrics_server.prometheus_reader(host, port, self.page.own_points))
        self._meters.provide(self.resource, readers)
        if self.settings.traces_exporters:
            traces.provide(self.settings, self.resource)
        if self.settings.metrics_port:
            from telemetry.export import metrics_server

            metrics_server.serve_metrics(self.page.render, self.settings.metrics_port)
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
        """Wait for a collection in progress, in a process about to fork."""
        self._holding = self._meters.collecting.acquire(timeout=FORK_TIMEOUT_S)

    def after_fork_in_parent(self) -> None:
        """Allow collections again, in a process that has forked."""
        if self._holding:
            self._meters.collecting.release()

    def after_fork_in_child(self) -> None:
        """Restart in a forked child, if the parent's pipeline had started."""
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
        """Export what is left, within `FINISH_TIMEOUT_S`.

        It may be called twice: when the app shuts down and when the process exits.
        """
        if not self.started or self.settings.disabled:
            return
        self.registry.end_where(lambda series: series.metric.kind == "updowncounter")
        # If the first call could not export, the second one does not wait again.
        deadline = time.monotonic() + (0.1 if self._gave_up else FINISH_TIMEOUT_S)
        done = self.flush_metrics(deadline - time.monotonic())
        if done and self.page.folder is not None:
            self.page.folder.done(self.page.folder.own)
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
        """Export what is left and stop. For tests and scripts: an app needn't call it."""
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
            # The counts stay in the file; from here on series count from 0.
            storage = self.registry.storage
            self.registry.move(MemoryStorage(), keep=False)
            storage.close()
            self.page.folder = None
        self._sender = self._loop = self.logs = None

    def _export_safely(self, sender: Sender) -> bool:
        if self.registry.isolated:
            return True
        try:
            return self._export(sender)
        except Exception:
            with contextlib.suppress(Exception):  # a logging handler of the app may raise
                _log.exception("telemetry: an export of metrics failed")
            return False

    def _export(self, sender: Sender) -> bool:
        points = self.registry.points()
        ended = self.registry.take_ended()
        own = [*points, *self.registry.derived(points), *ended]
        batches = [(self.resource, own), *self._collect_led_sources()]
        done = sender.send(batches, self._meters.collect_as(self.resource))
        if done:
            sender.forget(str(self.resource.attributes["service.instance.id"]), ended)
        else:
            self.registry.restore_ended(ended)
        if self.page.folder is not None:
            orphans.export_orphans(self.page.folder, sender.send)
            self.page.folder.retire()
        return done

    def _collect_led_sources(self) -> list[tuple[Resource, list[Point]]]:
        """Collect batches of the sources that this process exports."""
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
        """Derive the HTTP metrics of a namespace, e.g. ``gateway``."""
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
