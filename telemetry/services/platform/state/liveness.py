"""Whether a container is up or down: the observed state against the desired state.

The series `platform_container_up`, the API and the admin page show what is decided here, and the
alert ContainerDown fires on it.
"""

from __future__ import annotations

from telemetry.services.platform.state.observed import ContainerState


def runs(state: ContainerState) -> bool:
    """Tell whether a container runs. A paused one does: somebody paused it on purpose."""
    return state.state in ("running", "paused")


def is_up(state: ContainerState, wanted: bool) -> bool | None:
    """Tell whether a container is up (True) or down (False).

    Args:
        state: the container as last seen.
        wanted: its desired state: whether it must run.

    Returns:
        None if it need not run: then it is neither up nor down.
    """
    return runs(state) if wanted else None
