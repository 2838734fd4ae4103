"""Find this package by its own path, even if another module is called `telemetry`.

A module of that name is common, and the working folder and PYTHONPATH come before installed
packages. Our own processes load the package by its path: as a script, this file runs one of its
modules. In a user's process their module keeps the name, and ours is loaded under another name.

This file imports nothing of the package: it runs, and `telemetry_hooks` loads it, before the
package can be imported.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import sys

TYPE_CHECKING = False  # typing's own would be an import
if TYPE_CHECKING:
    import ast
    from collections.abc import Iterable
    from types import CodeType

NAME = "telemetry"
ALIAS = "container_telemetry"
FOLDER = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# Only an installation of this package has this file; another package called `telemetry` doesn't.
_OURS = os.path.join("run", "site", "telemetry_hooks.py")


def command(module: str, *arguments: str) -> tuple[str, ...]:
    """Build the command that runs a module of this package in a new process.

    Args:
        module: its name, e.g. ``telemetry.stack.supervisor``; a package runs its ``__main__``.
        arguments: its command-line arguments.
    """
    return sys.executable, "-P", os.path.abspath(__file__), module, *arguments


def importable(folders: Iterable[str]) -> str:
    """Make the package importable in this process.

    Args:
        folders: the process' import path, in order.

    Returns:
        The name to import it by: `NAME`, or `ALIAS` if the user has a module of that name.
    """
    loaded = sys.modules.get(NAME)
    if loaded is not None:
        folder = os.path.dirname(getattr(loaded, "__file__", None) or "")
    else:
        folder = next(filter(None, map(_package_in, folders)), FOLDER)
    if os.path.isfile(os.path.join(folder, _OURS)):
        if loaded is None and os.path.samefile(folder, FOLDER):
            _load()
        return NAME
    if _Finder not in sys.meta_path:
        sys.meta_path.insert(0, _Finder)
    return ALIAS


def _package_in(folder: str) -> str:
    """Return the folder of the module or package called `NAME` in a path entry, "" if there is
    none. A module's folder is the entry itself."""
    package = os.path.join(folder or os.curdir, NAME)
    if os.path.isfile(os.path.join(package, "__init__.py")):
        return package
    return folder or os.curdir if os.path.isfile(f"{package}.py") else ""


def _load() -> None:
    file = os.path.join(FOLDER, "__init__.py")
    spec = importlib.util.spec_from_file_location(NAME, file, submodule_search_locations=[FOLDER])
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[NAME] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[NAME]
        raise


class _Finder:
    """Finder of the package `ALIAS` and its modules."""

    @staticmethod
    def find_spec(
        name: str, path: object = None, target: object = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Find a module's spec, as `importlib.abc.MetaPathFinder.find_spec` does."""
        top, *below = name.split(".")
        if top != ALIAS:
            return None
        base = os.path.join(FOLDER, *below)
        package = os.path.isfile(os.path.join(base, "__init__.py"))
        file = os.path.join(base, "__init__.py") if package else f"{base}.py"
        if not os.path.isfile(file):
            return None
        return importlib.util.spec_from_file_location(
            name,
            file,
            loader=_Renaming(name, file),
            submodule_search_locations=[base] if package else None,
        )


class _Renaming(importlib.machinery.SourceFileLoader):
    """Loader that makes a module import the rest of this package by `ALIAS`."""

    def get_code(self, fullname: str) -> CodeType:
        # Bypass the bytecode cache: it holds the unchanged source.
        file = self.get_filename(fullname)
        return compile(_renamed(self.get_data(file)), file, "exec", dont_inherit=True)


def _renamed(source: bytes) -> ast.Module:
    import ast

    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and not node.level:
            top, *below = (node.module or "").split(".")
            if top == NAME:
                node.module = ".".join((ALIAS, *below))
        elif isinstance(node, ast.Import):
            for name in node.names:
                if name.name == NAME:
                    name.name, name.asname = ALIAS, name.asname or NAME
    return tree


# If this file is the script, and in the children that multiprocessing spawns.
if __name__ in ("__main__", "__mp_main__"):
    _load()

if __name__ == "__main__":
    import runpy

    del sys.argv[0]
    # Don't alter sys.modules["__main__"]: spawned children would import it by its name.
    runpy.run_module(sys.argv[0], run_name="__main__")
