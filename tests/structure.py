"""Count structural problems, to keep the package easy to change: `python -m tests.structure`.

Import cycles and layers are checked by import-linter, with `nox -s lint`.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "telemetry"
FOLDERS = ("telemetry", "tests", "bench", "docs")

_FMT = re.compile(r"#\s*fmt:")
_ENVIRONMENT = re.compile(r"environ(ment)?|env|settings")

Function = ast.FunctionDef | ast.AsyncFunctionDef


def sources() -> list[Path]:
    """Return every Python file of the project."""
    found = (path for name in FOLDERS for path in (ROOT / name).rglob("*.py"))
    return sorted([*found, *ROOT.glob("*.py")])


def top_level_modules() -> list[str]:
    """Return the package's top-level modules, except `__init__` and `__main__`."""
    return sorted(path.stem for path in PACKAGE.glob("*.py") if not path.stem.startswith("__"))


def functions() -> Iterator[tuple[str, Function]]:
    """Yield every function of the package with its location."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, Function):
                yield f"{path.relative_to(ROOT)}:{node.lineno} {node.name}", node


def _parameters(function: Function) -> list[ast.arg]:
    given = function.args
    found = [*given.posonlyargs, *given.args, *given.kwonlyargs]
    return [arg for arg in found if arg.arg not in ("self", "cls")]


def long_signatures(most: int = 8) -> list[str]:
    """Return functions with more than ``most`` parameters, not counting `self`."""
    return [where for where, function in functions() if len(_parameters(function)) > most]


def takes_environment() -> list[str]:
    """Return functions that take the environment instead of a value or a settings object."""
    return [
        where
        for where, function in functions()
        if any(
            _ENVIRONMENT.fullmatch(arg.arg)
            and (arg.annotation is None or "Mapping" in ast.unparse(arg.annotation))
            for arg in _parameters(function)
        )
    ]


def long_files(most: int = 395) -> list[str]:
    """Return Python files with more than ``most`` lines; the limit is 400."""
    lengths = ((path, len(path.read_text().splitlines())) for path in sources())
    return [f"{path.relative_to(ROOT)}: {lines}" for path, lines in lengths if lines > most]


def fmt_comments() -> list[str]:
    """Return the comments that switch the formatter off."""
    return [
        f"{path.relative_to(ROOT)}:{number}"
        for path in sources()
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if _FMT.search(line)
    ]


LIMITS: dict[str, tuple[Callable[[], list[str]], int]] = {
    "modules at the top of the package": (top_level_modules, 8),
    "functions of more than 8 parameters": (long_signatures, 0),
    "functions given the environment": (takes_environment, 10),
    "files of more than 395 lines": (long_files, 0),
    "comments that switch the formatter off": (fmt_comments, 20),
}
"""Name of each count: function that lists its items, and their maximum number."""


def main() -> int:
    """Print the counts, and the items of each count above its maximum."""
    over = False
    for what, (find, limit) in LIMITS.items():
        found = find()
        print(f"{len(found):5} of at most {limit:2} {what}")
        if len(found) > limit:
            over = True
            print(*(f"        {each}" for each in found), sep="\n")
    return int(over)


if __name__ == "__main__":
    sys.exit(main())
