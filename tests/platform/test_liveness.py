"""Up or down: the observed state against the desired state."""

from __future__ import annotations

import pytest

from telemetry.services.platform.state.liveness import is_up
from telemetry.services.platform.state.observed import ContainerState


@pytest.mark.parametrize(
    ("state", "up"),
    [
        ("running", True),
        ("paused", True),
        ("created", False),
        ("restarting", False),
        ("removing", False),
        ("exited", False),
        ("dead", False),
    ],
)
def test_container_that_must_run_is_up_only_while_it_runs(state: str, up: bool) -> None:
    assert is_up(ContainerState("ann", "1", state=state), wanted=True) is up


@pytest.mark.parametrize("state", ["running", "exited"])
def test_container_that_need_not_run_is_neither_up_nor_down(state: str) -> None:
    assert is_up(ContainerState("ann", "1", state=state), wanted=False) is None
