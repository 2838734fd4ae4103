"""Find this package by its own path, whatever else is called `telemetry`.

A module of that name is common, and the working folder or PYTHONPATH comes before what is
installed. Our own processes load the package by its path: as a script, this file runs one of its
modules. In a process of the user's their module keeps the name, and ours is loaded under another.

Stands alone: it is run, and loaded by `telemetry_hooks`, before the package is there.
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
# What tells another installation of this package from a stranger.
_OURS = os.path.join("run", "site", "telemetry_hooks.py")


def command(module: str, *arguments: str) -> tuple[str, ...]:
    """The command that runs a module of this package in a process of its own.

    Args:
        module: its name, e.g. ``telemetry.stack.supervisor``; of a package its ``__main__``.
        arguments: what it finds in `sys.argv`.
    """
    return sys.executable, "-P", os.path.abspath(__file__), module, *arguments


def importable(folders: Iterable[str]) -> str:
    """Make the package importable in this process.

    Args:
        folders: where the process may import from, in that order.

    Returns:
        The name to import it by: `NAME`, or `ALIAS` if that is a module of the user's.
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
    """The folder of what a path entry has by our name: "" if there is none, the entry itself if
    it is a module."""
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
    """Finds `ALIAS` and what is below it."""

    @staticmethod
    def find_spec(
        name: str, path: object = None, target: object = None
    ) -> importlib.machinery.ModuleSpec | None:
        """As `importlib.abc.MetaPathFinder.find_spec`."""
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
    """Loads a module that imports others of this package: by `ALIAS`."""

    def get_code(self, fullname: str) -> CodeType:
        # Not by way of the cache: that is of the source as it stands.
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


# Where this is the script, also in the children that multiprocessing spawns.
if __name__ in ("__main__", "__mp_main__"):
    _load()

if __name__ == "__main__":
    import runpy

    del sys.argv[0]
    # Not as sys.modules["__main__"], which spawned children would import by its name.
    runpy.run_module(sys.argv[0], run_name="__main__")
