"""Locations of the configuration files that are shipped with the package.

In a checkout they are in the top-level folders (collector/, grafana/, compose/). In an installed
wheel the same files are in ``telemetry/_files/``.
"""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]


def path(relative: str) -> Path:
    """Find a shipped file or folder, e.g. ``collector/config.yaml``.

    Raises:
        FileNotFoundError: it is in neither the wheel nor the checkout.
    """
    for base in (_PACKAGE / "_files", _PACKAGE.parent):
        candidate = base / relative
        if candidate.exists():
            return candidate
    raise FileNotFoundError(f"{relative} is not part of this installation of telemetry")
