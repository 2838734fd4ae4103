"""Provision, start, stop and remove containers; a failure leaves nothing behind.

All functions block; call them in threads. Each operation is recorded in the store before it
starts, so that after an interruption (a crash, Docker going down) it is undone or finished later.
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
from telemetry.services.platform.proxy_keys import Key, ProxyKeys
from telemetry.services.platform.settings import Settings
from telemetry.services.platform.state.desired import HANDLE_LABEL, PLATFORM_LABEL
from telemetry.services.platform.state.observed import ContainerState, ObservedState, from_inspect
from telemetry.services.platform.state.store import Store, taken
from telemetry.system.docker_engine import Engine

STOP_TIMEOUT_S = 10  # Docker's own default before it kills
_log = logging.getLogger(__name__)


class Lifecycle:
    """The platform's operations on containers.

    Args:
        settings: the platform's settings.
        engine: Docker.
        store: the desired state.
        observed: the observed state.
        keys: the proxy's admin API.
        open_relay: opens the relay on an address of this machine, and returns host and port as
            containers reach it.
        reconcile: has the watcher reconcile a handle.
    """

    def __init__(
        self,
        settings: Settings,
        engine: Engine,
        store: Store,
        observed: ObservedState,
        keys: ProxyKeys,
        open_relay: Callable[[str], str],
        reconcile: Callable[[str], None],
    ) -> None:
        self._settings = settings
        self._engine = engine
        self._store = store
        self._observed = observed
        self._open_relay = open_relay
        self._reconcile = reconcile
        self._keys = keys
        self._locks: dict[str, threading.Lock] = {}
        self._provision = metrics.histogram(catalog.PLATFORM_PROVISION_DURATION)
        self._destroy = metrics.histogram(catalog.PLATFORM_DESTROY_DURATION)

    # --- operations ---------------------------------------------------------------------------

    def provision(self, spec: Spec) -> ContainerState:
        """Create and start a container, with its network, key and environment.

        Raises:
            HTTPError: the request can't be fulfilled; nothing is left behind.
            EngineAbsent: Docker does not answer.
        """
        with self._exclusive(spec.handle):
            if self._observed.get(spec.handle) or self._store.get(spec.handle):
                raise taken(spec.handle)
            with self._timed(self._provision):
                with self._engine.connect() as client:
                    client.ping()  # without Docker nothing starts, and nothing has to be undone
                self._store.begin(spec.handle, spec.to_json())
                try:
                    return self._create(spec)
                except BaseException:
                    # If it can't be undone now, the record stays, and it is undone later.
                    with suppress(TelemetryError):
                        self._end(spec.handle)
                    raise

    def start(self, handle: str) -> ContainerState:
        """Start a container that does not run."""
        with self._exclusive(handle), self._container(handle) as container:
            container.start()
            return self._refresh(container, wanted=True)

    def stop(self, handle: str) -> ContainerState:
        """Stop a container and set its desired state to stopped."""
        with self._exclusive(handle), self._container(handle) as container:
            wanted = self._store.wanted(handle)
            self._set_wanted(handle, False)  # before it dies, so that it does not count as down
            try:
                container.stop(timeout=STOP_TIMEOUT_S)
            except BaseException:
                self._set_wanted(handle, wanted)  # it may still run; its end must be noticed
                self._reconcile(handle)
                raise
            return self._refresh(container, wanted=False)

    def restart(self, handle: str) -> ContainerState:
        """Stop and start a container; if it can't be started, it is down, not stopped."""
        with self._exclusive(handle), self._container(handle) as container:
            self._store.restarting(handle)
            try:
                container.restart(timeout=STOP_TIMEOUT_S)
            except BaseException:
                self._set_wanted(handle, True)
                self._reconcile(handle)
                self._expect_stop_event(container)
                raise
            return self._refresh(container, wanted=True)

    def remove(self, handle: str) -> None:
        """Remove a container, its key and its record.

        Raises:
            HTTPError: there is no such container.
            EngineAbsent: Docker does not answer; it is removed once Docker answers again.
        """
        with self._exclusive(handle):
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
        """Return a container's output as an iterator of bytes; `cut` it if it is followed."""
        with self._container(handle) as container:
            found = container.logs(stream=follow, follow=follow, tail=tail)
            return found if follow else iter([found])

    # --- recovery -------------------------------------------------------------------------------

    def recover(self) -> None:
        """Undo or finish operations that were interrupted by a crash, or because Docker or the
        proxy was down. Remove records of containers that are gone.

        Raises:
            EngineAbsent: Docker does not answer.
            HTTPError: it is not the engine that the records belong to.
        """
        records = (
            self._store.all()
        )  # before the list, which may not include containers recorded later
        with self._engine.connect() as client:
            if not self._store.belongs_to(client.info()["ID"]):
                raise HTTPError(
                    503,
                    f"the Docker engine at {self._engine.address} is not the one that has the "
                    f"containers of {self._store.path}: nothing is recovered or removed",
                    "set DOCKER_HOST to that engine, or TELEMETRY_HOME to another folder",
                )
            there = {c.id for c in client.containers.list(all=True, ignore_removed=True)}
        for record in records:
            lock = self._lock_of(record.handle)
            if not lock.acquire(blocking=False):
                continue  # an operation is in progress
            try:
                if record.container_id not in there:
                    self._store.removed(record.handle, record.container_id)
                current = self._store.get(record.handle)
                if current is not None and current.phase != "made":
                    self._end(record.handle)
            except HTTPError as problem:
                _log.warning(
                    "an operation on %s is still incomplete: %s", record.handle, problem.message
                )
            finally:
                lock.release()
        try:
            self._revoke_owed()
        except HTTPError as problem:
            _log.warning("keys are not yet revoked: %s", problem.message)

    # --- steps ----------------------------------------------------------------------------------

    def _create(self, spec: Spec) -> ContainerState:
        with self._engine.connect() as client, _translated_errors(spec):
            self._pull_if_missing(client, spec.image)
            gateway = network.ensure(client, self._settings.network)
            address = self._open_relay(gateway)
            key = self._create_key(spec) if self._settings.keys else None
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

    def _create_key(self, spec: Spec) -> Key:
        budget = spec.daily_budget_usd
        if budget is None and self._settings.daily_budget_usd:
            # A user that exists keeps its budget, which an administrator may have set.
            is_new = not self._keys.has_user(spec.handle)
            budget = self._settings.daily_budget_usd if is_new else None
        return self._keys.create(spec.handle, budget)

    def _pull_if_missing(self, client: Any, image: str) -> None:
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
                f"check its name, or get it: docker pull {image}, docker build, docker load",
            ) from error

    def _end(self, handle: str) -> None:
        """Remove everything of a handle that is being removed, or whose provisioning failed."""
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
            # The handle is free nevertheless: the keys are revoked as soon as the proxy answers.
            _log.warning("keys are not yet revoked: %s", problem.message)

    def _revoke_owed(self) -> None:
        for owed in self._store.revocations():
            known = [owed.key_id] if owed.key_id else None
            for key_id in known or self._keys.made_between(owed.handle, owed.from_ms, owed.to_ms):
                self._keys.revoke(key_id)
            self._store.revoked(owed)

    def _remove_containers(self, handle: str, container_id: str) -> None:
        import docker

        ours = [f"{HANDLE_LABEL}={handle}", f"{PLATFORM_LABEL}={self._store.platform_id}"]
        with self._engine.connect() as client:
            # Also one created just before a crash, whose id is not recorded.
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
                        "the platform tries again automatically; see Docker's own log",
                    ) from error
                self._observed.remove(handle, each)

    # --- helpers --------------------------------------------------------------------------------

    @contextmanager
    def _container(self, handle: str) -> Iterator[Any]:
        """Get a handle's container, and translate Docker's errors."""
        import docker

        record, state = self._store.get(handle), self._observed.get(handle)
        container_id = state.id if state else record.container_id if record else ""
        if not container_id:
            raise unknown(handle)
        with self._engine.connect() as client:
            try:
                yield client.containers.get(container_id)
            except docker.errors.NotFound:
                raise unknown(handle) from None
            except docker.errors.APIError as error:
                raise HTTPError(
                    409, f"Docker refuses this for {handle}: {error.explanation}"
                ) from error

    def _set_wanted(self, handle: str, wanted: bool) -> None:
        self._store.change(handle, wanted=wanted)

    def _expect_stop_event(self, container: Any) -> None:
        """A restart failed while stopping: the next stop event is a real one, not half of it."""
        with suppress(Exception):  # the caller gets the error of the restart
            container.reload()
            if container.attrs["State"].get("Pid"):
                self._store.started(container.labels[HANDLE_LABEL], container.id)

    def _refresh(self, container: Any, *, wanted: bool) -> ContainerState:
        asked_at = time.monotonic()
        container.reload()
        state = from_inspect(container.attrs)
        self._set_wanted(state.handle, wanted)
        self._observed.update(state, asked_at)
        self._reconcile(state.handle)  # Docker sends no event if it was so already
        return state

    def _lock_of(self, handle: str) -> threading.Lock:
        return self._locks.setdefault(handle, threading.Lock())

    @contextmanager
    def _exclusive(self, handle: str) -> Iterator[None]:
        """Allow one operation at a time for each handle."""
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
    """Return the error for a handle without a container."""
    return HTTPError(
        404, f"no container has the handle {handle}", "GET /api/containers lists all handles"
    )


@contextmanager
def _translated_errors(spec: Spec) -> Iterator[None]:
    """Translate Docker's refusals."""
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
                f"a container named {name} exists that this platform did not create",
                f"remove or rename it (docker rename {name} …), or use another handle",
            ) from error
        if status < 500 or "OCI runtime" in said or "executable file not found" in said:
            raise HTTPError(422, f"Docker can't run this: {said}", "check image and command") from (
                error
            )
        raise HTTPError(502, f"Docker failed: {said}", "see Docker's own log") from error
