"""First on PYTHONPATH of whatever `telemetry run` starts: hooks the servers, then makes way for
a sitecustomize of the user's own. Light: what isn't an ASGI server never imports the rest."""

import os
import sys

_here = os.path.dirname(os.path.abspath(__file__))


def _hook() -> None:
    try:
        from telemetry.launch import servers
    except ImportError as error:
        # Another interpreter than the one `telemetry` is installed in: the app runs all the same.
        print(f"telemetry: not instrumented, {error} ({sys.executable})", file=sys.stderr)
        return
    servers.hook()


def _chain() -> None:
    """Run the sitecustomize that this one hides."""
    import importlib.util

    path = [p for p in sys.path if os.path.abspath(p or ".") != _here]
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", path)
    if spec is not None and spec.loader is not None:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


if os.environ.get("TELEMETRY_RUN_DIR"):
    _hook()

_chain()
