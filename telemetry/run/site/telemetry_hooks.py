"""Waits for an ASGI server to be imported, and has what it loads instrumented.

It is in every Python process of a run, most of which may not be servers: so it imports nothing
until there is one.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import os
import sys

TYPE_CHECKING = False  # typing's own would be an import
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType
    from typing import Any

# Each module with the function in telemetry.run.server_hooks that sees to it.
HOOKS = {
    "uvicorn.config": "uvicorn_config",
    "uvicorn.server": "uvicorn_server",
    "uvicorn.supervisors.multiprocess": "uvicorn_manager",
    "gunicorn.arbiter": "gunicorn_manager",
    "gunicorn.workers.gasgi": "gunicorn_asgi",
    "hypercorn.utils": "hypercorn",
    "hypercorn.run": "hypercorn_manager",
    "granian.asgi": "granian",
    "daphne.server": "daphne",
}


class Finder:
    """Finds nothing itself: has the others find the module, and looks after it is executed."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """As `importlib.abc.MetaPathFinder.find_spec`, whose import would cost more."""
        if name not in HOOKS:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def executing(module: ModuleType) -> None:
                execute(module)
                _hook(name, module)

            spec.loader.exec_module = executing  # type: ignore[method-assign]
        return spec


def _hook(name: str, module: ModuleType) -> None:
    try:
        if importlib.util.find_spec("opentelemetry") is None:
            raise ImportError("No module named 'opentelemetry'")
        package = _own_package().importable(_import_folders())
        server_hooks = importlib.import_module(f"{package}.run.server_hooks")
    except ImportError as error:
        # Another interpreter than the one `telemetry` is installed in: the app runs all the same.
        print(f"telemetry: not instrumented, {error} ({sys.executable})", file=sys.stderr)
        return
    getattr(server_hooks, HOOKS[name])(module)


def _own_package() -> Any:
    name = "telemetry_own_package"
    if name not in sys.modules:
        package = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        file = os.path.join(package, "system", "own_package.py")
        spec = importlib.util.spec_from_file_location(name, file)
        if spec is None or spec.loader is None:
            raise ImportError(f"there is no {file}")
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def _import_folders() -> list[str]:
    """Where the app may import from: servers put the working folder, or one that an option names
    (--app-dir, --chdir, --pythonpath), in front of the path when they load it."""
    options = (word.rpartition("=")[2] for word in sys.argv[1:])
    named = [folder for option in options for folder in option.split(",") if os.path.isdir(folder)]
    return [*named, os.getcwd(), *sys.path]


def install() -> None:
    """Watch this process's imports from now on; once, however often it is called."""
    if Finder not in sys.meta_path:
        sys.meta_path.insert(0, Finder)
