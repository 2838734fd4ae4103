"""Where the configuration files that travel with the package are.

In a checkout they are the folders at its top (collector/, grafana/, compose/); in an
installed wheel the same files stand under ``telemetry/_files/``. Never both.
"""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]


def path(relative: str) -> Path:
    """The file or folder that travels as ``relative``, e.g. ``collector/config.yaml``.

    Raises:
        FileNotFoundError: it is neither in the wheel nor in the checkout.
    """
    for base in (_PACKAGE / "_files", _PACKAGE.parent):
        candidate = base / relative
        if candidate.exists():
            return candidate
    raise FileNotFoundError(f"{relative} is not part of this installation of telemetry")
