"""Install the hooks in every Python process of a run, then run the user's own sitecustomize.

This folder is first on the PYTHONPATH of the run's processes.
"""

import importlib.machinery
import importlib.util
import os
import sys

_here = os.path.dirname(os.path.abspath(__file__))


def _chain() -> None:
    """Run the sitecustomize that this one hides."""
    path = [p for p in sys.path if os.path.abspath(p or ".") != _here]
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", path)
    if spec is not None and spec.loader is not None:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


if os.environ.get("TELEMETRY_RUN_DIR"):
    import telemetry_hooks  # type: ignore[import-not-found]  # beside this file

    telemetry_hooks.install()

_chain()
