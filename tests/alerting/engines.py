"""The engines these tests drive directly."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest


def engine(name: str) -> str:
    """The path of an engine or of its tool."""
    if found := shutil.which(name):
        return found
    cache = Path(os.environ.get("TELEMETRY_ENGINES", "~/.cache/telemetry/engines")).expanduser()
    for candidate in sorted(cache.glob(f"**/{name}")):
        if candidate.is_file() and os.access(candidate, os.X_OK):
            return str(candidate)
    pytest.fail(f"{name} is neither on PATH nor in {cache}")
