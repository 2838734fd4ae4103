"""Containers made, started, stopped and removed; nothing is left half-made.

Everything here blocks and runs in threads. What is about to be done stands in the store before
it is, so that whatever cuts it off (a crash, Docker gone) is undone or finished later.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Literal

from telemetry import catalog, metrics
from telemetry.errors import TelemetryError
from telemetry.services.http import HTTPError
from telemetry.services.platform.containers import create_options, network
from telemetry.services.platform.containers.spec import Spec
from telemetry.services.platform.proxy_keys import Keys
from telemetry.services.platform.settings import Settings
from telemetry.services.platform.state.desired import HANDLE_LABEL, PLATFORM_LABEL
from telemetry.services.platform.state.observed import ContainerState, ObservedState, from_inspect
from telemetry.services.platform.state.store import Store, taken
from telemetry.system.docker_engine import Engine

STOP_S = 10  # Docker's own patience before it kills
_log = logging.getLogger(__name__)


class Lifecycle:
    """What the platform does to containers.

    Args:
        settings: what it was told.
        engine: Docker.
        store: the desired state.
        observed: the observed state.
        keys: the proxy's admin API.
        reach: opens the relay on an address of this machine, and returns the host and port that
            containers find it at.
        reconcile: has the watcher reconcile a handle.
    """

    def __init__(
        self,
        settings: Settings,
        engine: Engine,
        store: Store,
        observed: ObservedState,
        keys: Keys,
        reach: Callable[[str], str],
        reconcile: Callable[[str], None],
    ) -> None:
        self._settings = settings
        self._engine = engine
        self._store = store
        self._observed = observed
        self._reach = reach
        self._reconcile = reconcile
        self._keys = keys
        self._locks: dict[str, threading.Lock] = {}
        self._provision = metrics.histogram(catalog.PLATFORM_PROVISION_DURATION)
        self._destroy = metrics.histogram(catalog.PLATFORM_DESTROY_DURATION)

    # --- what callers ask for -----------------------------------------------------------------

    def provision(self, spec: Spec) -> ContainerState:
        """Make and start a container, with everything it needs.

        Raises:
            HTTPError: it can't be as asked; nothing of it is left.
            EngineAbsent: there is no Docker.
        """
        with self._alone(spec.handle):
            if self._observed.get(spec.handle) or self._store.get(spec.handle):
                raise taken(spec.handle)
            with self._timed(self._provision):
                with self._engine.asked() as client:
                    client.ping()  # without Docker nothing begins, and nothing is to be undone
                self._store.begin(spec.handle, spec.to_json())
                try:
                    return self._make(spec)
                except BaseException:
                    # What can't be undone now stays written down, and is undone later.
                    with suppress(TelemetryError):
                        self._end(spec.handle)
                    raise

    def start(self, handle: str) -> ContainerState:
        """Start a container that doesn't run."""
        with self._alone(handle), self._container(handle) as container:
            container.start()
            return self._now(container, wanted=True)

    def stop(self, handle: str) -> ContainerState:
        """Stop a container on purpose."""
        with self._alone(handle), self._container(handle) as container:
            wanted = self._store.wanted(handle)
            self._wants(handle, False)  # before it dies: that is what was asked for
            try:
                container.stop(timeout=STOP_S)
            except BaseException:
                self._wants(handle, wanted)  # it may run on, and must be seen to end
                self._reconcile(handle)
                raise
            return self._now(container, wanted=False)

    def restart(self, handle: str) -> ContainerState:
        """Stop and start a container; one that can't be started is down, not stopped."""
        with self._alone(handle), self._container(handle) as container:
            self._store.restarting(handle)
            try:
                container.restart(timeout=STOP_S)
            except BaseException:
                self._wants(handle, True)
                self._reconcile(handle)
                self._not_stopped(container)
                raise
            return self._now(container, wanted=True)

    def remove(self, handle: str) -> None:
        """Remove a container for good: itself, its key, its place in the store.

        Raises:
            HTTPError: there is none.
            EngineAbsent: there is no Docker; it is removed once there is one again.
        """
        with self._alone(handle):
            record, state = self._store.get(handle), self._observed.get(handle)
            if record is None and state is None:
                raise unknown(handle)
            with self._timed(self._destroy):
                if record is None:
                    record = self._store.begin(handle, {})
                container_id = record.container_id or (state.id if state else "")
                self._store.change(
                    handle, phase="removing", wanted=False, container_id=container_id
                )
                self._end(handle)

    def logs(self, handle: str, tail: int, follow: bool) -> Any:
        """What a container printed: an iterator of bytes, to be cut where it is followed."""
        with self._container(handle) as container:
            found = container.logs(stream=follow, follow=follow, tail=tail)
            return found if follow else iter([found])

    # --- what was cut off -----------------------------------------------------------------------

    def settle(self) -> None:
        """Undo or finish whatever was left half-way, by a crash or because Docker or the proxy
        was away. Records of containers that are gone are cleared up.

        Raises:
            EngineAbsent: there is no Docker.
            HTTPError: it is another engine than the records are of.
        """
        records = self._store.all()  # before the list: what is recorded later may not be in it
        with self._engine.asked() as client:
            if not self._store.belongs_to(client.info()["ID"]):
                raise HTTPError(
                    503,
                    f"the Docker engine at {self._engine.address} is not the one that the "
                    f"containers in {self._store.path} are in: nothing is cleared up",
                    "set DOCKER_HOST to that one, or TELEMETRY_HOME to another folder",
                )
            there = {c.id for c in client.containers.list(all=True, ignore_removed=True)}
        for record in records:
            lock = self._lock_of(record.handle)
            if not lock.acquire(blocking=False):
                continue  # a caller is at it
            try:
                if record.container_id not in there:
                    self._store.removed(record.handle, record.container_id)
                current = self._store.get(record.handle)
                if current is not None and current.phase != "made":
                    self._end(record.handle)
            except HTTPError as problem:
                _log.warning("%s is left half-way: %s", record.handle, problem.message)
            finally:
                lock.release()
        try:
            self._revoke_owed()
        except HTTPError as problem:
            _log.warning("keys wait to be revoked: %s", problem.message)

    # --- steps ----------------------------------------------------------------------------------

    def _make(self, spec: Spec) -> ContainerState:
        with self._engine.asked() as client, _docker_says(spec):
            self._have_image(client, spec.image)
            gateway = network.ensure(client, self._settings.network)
            address = self._reach(gateway)
            key = self._keys.create(spec.handle) if self._settings.keys else None
            if key is not None:
                self._store.change(spec.handle, key_id=key.id)
            arguments = create_options.arguments(
                spec, self._settings, self._store.platform_id, address, key
            )
            container = client.containers.create(**arguments)
            self._store.change(spec.handle, container_id=container.id)
            container.start()
            asked_at = time.monotonic()
            container.reload()
            self._store.change(spec.handle, phase="made", wanted=True)
            state = from_inspect(container.attrs)
            self._observed.update(state, asked_at)
            self._reconcile(spec.handle)
            return state

    def _have_image(self, client: Any, image: str) -> None:
        import docker

        try:
            client.images.get(image)
            return
        except docker.errors.ImageNotFound:
            pass
        try:
            repository, tag = docker.utils.parse_repository_tag(image)
            client.images.pull(repository, tag=tag or "latest")
        except docker.errors.APIError as error:
            raise HTTPError(
                422,
                f"image {image} is not on this machine and can't be pulled: {error.explanation}",
                f"check its name, or bring it here: docker pull {image}, docker build, docker load",
            ) from error

    def _end(self, handle: str) -> None:
        """Leave nothing of a handle: one that is to be removed, or was not made to its end."""
        record = self._store.get(handle)
        if record is None:
            return
        self._remove_containers(handle, record.container_id)
        if record.key_id or (record.phase == "making" and self._settings.keys):
            self._store.owe_revocation(record)
        self._store.forget(handle)
        try:
            self._revoke_owed()
        except HTTPError as problem:
            # No reason to keep the handle: it is done as soon as the proxy answers.
            _log.warning("keys wait to be revoked: %s", problem.message)

    def _revoke_owed(self) -> None:
        for owed in self._store.revocations():
            known = [owed.key_id] if owed.key_id else None
            for key_id in known or self._keys.made_between(owed.handle, owed.from_ms, owed.to_ms):
                self._keys.revoke(key_id)
            self._store.revoked(owed)

    def _remove_containers(self, handle: str, container_id: str) -> None:
        import docker

        ours = [f"{HANDLE_LABEL}={handle}", f"{PLATFORM_LABEL}={self._store.platform_id}"]
        with self._engine.asked() as client:
            # Also one that was made just before a crash, whose id nobody wrote down.
            found = client.containers.list(all=True, filters={"label": ours}, ignore_removed=True)
            for each in {container_id, *(c.id for c in found)} - {""}:
                try:
                    client.api.remove_container(each, force=True, v=True)
                except docker.errors.NotFound:
                    pass
                except docker.errors.APIError as error:
                    raise HTTPError(
                        502,
                        f"Docker can't remove the container of {handle}: {error.explanation}",
                        "the platform tries again by itself; see Docker's own log",
                    ) from error
                self._observed.remove(handle, each)

    # --- the small things -----------------------------------------------------------------------

    @contextmanager
    def _container(self, handle: str) -> Iterator[Any]:
        """The container to do something to."""
        import docker

        record, state = self._store.get(handle), self._observed.get(handle)
        container_id = state.id if state else record.container_id if record else ""
        if not container_id:
            raise unknown(handle)
        with self._engine.asked() as client:
            try:
                yield client.containers.get(container_id)
            except docker.errors.NotFound:
                raise unknown(handle) from None
            except docker.errors.APIError as error:
                raise HTTPError(
                    409, f"Docker refuses that to {handle}: {error.explanation}"
                ) from error

    def _wants(self, handle: str, wanted: bool) -> None:
        self._store.change(handle, wanted=wanted)

    def _not_stopped(self, container: Any) -> None:
        """Where a restart failed at the stop, the next stop is none of its own."""
        with suppress(Exception):  # what failed before is what the caller has to hear
            container.reload()
            if container.attrs["State"].get("Pid"):
                self._store.started(container.labels[HANDLE_LABEL], container.id)

    def _now(self, container: Any, *, wanted: bool) -> ContainerState:
        asked_at = time.monotonic()
        container.reload()
        state = from_inspect(container.attrs)
        self._wants(state.handle, wanted)
        self._observed.update(state, asked_at)
        self._reconcile(state.handle)  # Docker has nothing to say where it was so already
        return state

    def _lock_of(self, handle: str) -> threading.Lock:
        return self._locks.setdefault(handle, threading.Lock())

    @contextmanager
    def _alone(self, handle: str) -> Iterator[None]:
        """One thing at a time for each handle."""
        with self._lock_of(handle):
            yield

    @contextmanager
    def _timed(self, histogram: metrics.Histogram) -> Iterator[None]:
        began = time.perf_counter()
        outcome: Literal["ok", "error"] = "error"
        try:
            yield
            outcome = "ok"
        finally:
            histogram.record(time.perf_counter() - began, {"outcome": outcome})


def unknown(handle: str) -> HTTPError:
    """What to tell whoever asks for a handle without a container."""
    return HTTPError(
        404, f"no container has the handle {handle}", "GET /api/containers lists those there are"
    )


@contextmanager
def _docker_says(spec: Spec) -> Iterator[None]:
    """Docker's refusals as callers understand them."""
    import docker

    try:
        yield
    except docker.errors.APIError as error:
        status = error.response.status_code if error.response is not None else 500
        said = str(error.explanation)
        if status == 409:
            name = create_options.container_name(spec.handle)
            raise HTTPError(
                409,
                f"a container named {name} exists that this platform did not make",
                f"remove or rename it (docker rename {name} …), or use another handle",
            ) from error
        if status < 500 or "OCI runtime" in said or "executable file not found" in said:
            raise HTTPError(422, f"Docker can't run this: {said}", "check image and command") from (
                error
            )
        raise HTTPError(502, f"Docker failed: {said}", "see Docker's own log") from error
