"""Readings from the engine's stats call, for when the kernel's files are not readable.

One call takes about a second on Engine 20.10, whatever the container, so calls run concurrently.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from telemetry.services.platform.sampling.cgroup import working_set
from telemetry.services.platform.sampling.reading import Reading
from telemetry.services.platform.sampling.timestamps import to_ns
from telemetry.services.platform.state.observed import ContainerState
from telemetry.system.docker_engine import CONNECTIONS, Engine


def read_all(
    engine: Engine, states: Sequence[ContainerState]
) -> Iterator[tuple[ContainerState, Reading | None]]:
    """Yield each container with its reading, None for one that no longer runs.

    Args:
        engine: the engine to ask.
        states: the containers.

    Raises:
        EngineAbsent: the engine does not answer.
    """
    with ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="telemetry-stats") as pool:
        yield from pool.map(lambda state: (state, _read(engine, state)), states)


def _read(engine: Engine, state: ContainerState) -> Reading | None:
    import docker

    with engine.connect() as client:
        try:
            stats = client.api.stats(state.id, stream=False, one_shot=True)
        except docker.errors.APIError:
            return None  # gone, or being removed; the other containers are unaffected
    return reading(stats)


def reading(stats: Mapping[str, Any]) -> Reading | None:
    """Convert the engine's answer; None if the container did not run.

    Args:
        stats: the answer to ``GET /containers/{id}/stats?stream=false&one-shot=true``.
    """
    taken_ns = to_ns(stats.get("read", ""))
    memory = stats.get("memory_stats") or {}
    if not taken_ns or "usage" not in memory:
        return None
    kinds = memory.get("stats") or {}
    networks = stats.get("networks")
    return Reading(
        "engine",
        taken_ns,
        int(stats["cpu_stats"]["cpu_usage"]["total_usage"]),
        working_set(
            int(memory["usage"]),
            kinds.get("total_inactive_file", kinds.get("inactive_file")),
        ),
        int(memory.get("limit", 0)),
        sum(n["rx_bytes"] for n in networks.values()) if networks else None,
        sum(n["tx_bytes"] for n in networks.values()) if networks else None,
    )
