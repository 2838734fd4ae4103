"""Import hooks that instrument the app of an ASGI server.

They are in every Python process of a run, and most of these may not be servers. So nothing else
is imported until a server is.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import os
import sys

TYPE_CHECKING = False  # not typing's, to save the import
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType
    from typing import Any

# Modules of servers, with their hooks in telemetry.run.server_hooks.
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
    """Finds a server's module by the regular path finder, and hooks it after its execution."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Find a module as `importlib.abc.MetaPathFinder` does, which is slow to import."""
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
        # An interpreter that `telemetry` is not installed for: the app runs uninstrumented.
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
    """List the folders that the app may import from. When servers load it, they prepend to the
    path the working folder, or one that an option names (--app-dir, --chdir, --pythonpath)."""
    options = (word.rpartition("=")[2] for word in sys.argv[1:])
    named = [folder for option in options for folder in option.split(",") if os.path.isdir(folder)]
    return [*named, os.getcwd(), *sys.path]


def install() -> None:
    """Watch this process's imports from now on. Further calls do nothing."""
    if Finder not in sys.meta_path:
        sys.meta_path.insert(0, Finder)
