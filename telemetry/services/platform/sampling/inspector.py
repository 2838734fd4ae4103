"""Ask the engine about containers: inspect, list, and why one ended."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from telemetry.services.platform.sampling.timestamps import to_ns, to_seconds
from telemetry.services.platform.state.desired import HANDLE_LABEL
from telemetry.system.docker_engine import Engine

MAX_CONCURRENT_INSPECTS = 8  # chosen by judgement, not measured

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Inspected:
    """The engine's description of a container.

    Args:
        attrs: as inspect returns it.
        asked_at: `time.monotonic` before the engine was asked.
    """

    attrs: Mapping[str, Any]
    asked_at: float


class Inspector:
    """Asks the engine.

    Args:
        engine: the Docker engine; each method raises `EngineAbsent` if it does not answer.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def list_ids(self) -> set[str]:
        """Return the ids of all containers with a handle."""
        with self._engine.connect() as client:
            listed = client.api.containers(all=True, filters={"label": [HANDLE_LABEL]})
        return {each["Id"] for each in listed}

    def inspect(self, id: str) -> Inspected | None:
        """Inspect a container; None if it is gone or can't be inspected."""
        import docker

        asked_at = time.monotonic()
        try:
            with self._engine.connect() as client:
                return Inspected(client.api.inspect_container(id), asked_at)
        except docker.errors.NotFound:
            return None  # its `destroy` event follows
        except docker.errors.APIError as error:
            _log.warning("platform: container %s can't be inspected: %s", id[:12], error)
            return None

    def inspect_all(self, ids: Sequence[str]) -> list[tuple[str, Inspected | None]]:
        """Inspect containers concurrently: the engine delays its answer about one that is being
        started or removed."""
        if len(ids) < 2:
            return [(id, self.inspect(id)) for id in ids]
        with ThreadPoolExecutor(MAX_CONCURRENT_INSPECTS, "telemetry-inspect") as pool:
            return list(zip(ids, pool.map(self.inspect, ids), strict=True))

    def was_stopped(self, id: str, since_ns: int) -> bool:
        """Tell whether somebody stopped a container, as far as the engine remembers.

        Inspect does not say it.

        Args:
            id: the container.
            since_ns: end of its last run, Unix nanoseconds.
        """
        with self._engine.connect() as client:
            until = to_seconds(to_ns(client.info()["SystemTime"]))
            filters = {"container": [id], "event": ["stop"]}
            stops = client.api.events(
                since=to_seconds(since_ns), until=until, filters=filters, decode=True
            )
            return any(True for _ in stops)
