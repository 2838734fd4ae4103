"""The `telemetry` command. Each command's implementation is in its own module."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import sys
from collections.abc import Sequence

from telemetry.errors import TelemetryError, UsageError
from telemetry.settings import stack as stack_settings
from telemetry.system.arguments import Parser
from telemetry.system.escapes import escape
from telemetry.unknown_settings import warn_of_unknown

# Each has `add_commands(subparsers)`, and imports heavy modules only when a command runs.
MODULES = (
    "telemetry.run.commands",
    "telemetry.stack.commands",
    "telemetry.demo.commands",
    "telemetry.alerting.commands",
    "telemetry.services.proxy.commands",
    "telemetry.services.commands",
)
DISTRIBUTION = "container-telemetry"


def parser() -> Parser:
    """Build the parser of the whole command line."""
    top = Parser(
        prog="telemetry",
        description="Make containerised ASGI services observable.",
        epilog="Start with `telemetry up`, then `telemetry run app:app`.",
    )
    top.add_argument("--version", action="version", version=f"telemetry {version()}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND")
    for module in MODULES:
        try:
            importlib.import_module(module).add_commands(commands)
        except ModuleNotFoundError as error:
            if not (error.name or "").startswith("telemetry."):
                raise
    return top


def version() -> str:
    """Get the installed version."""
    try:
        return importlib.metadata.version(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return the exit code."""
    stack_settings.keep_loopback_direct(os.environ)
    try:
        words = list(sys.argv[1:] if argv is None else argv)
        _check_encoding(words)
        args, unknown = parser().parse_known_args(words)
        if unknown and not hasattr(args, "rest"):
            args.parser.error(f"unknown arguments: {' '.join(unknown)}")
        if unknown:
            args.rest = [*unknown, *args.rest]
        if not hasattr(args, "run"):
            args.parser.print_help()
            return 0
        warn_of_unknown(os.environ)
        code: int = args.run(args)
        return code
    except TelemetryError as error:
        print(f"error: {escape(error.message)}", file=sys.stderr)
        if error.remedy:
            print(f"  -> {escape(error.remedy)}", file=sys.stderr)
        return error.exit_code
    except ModuleNotFoundError as error:
        extra = _extra_of(error.name or "")
        if not extra:
            raise
        print(f"error: this command needs {error.name}, which is not installed", file=sys.stderr)
        print(f'  -> pip install "{DISTRIBUTION}[{extra}]"', file=sys.stderr)
        return 69  # EX_UNAVAILABLE
    except KeyboardInterrupt:
        return 130


def _check_encoding(words: Sequence[str]) -> None:
    if words[:1] == ["run"]:
        return  # a path may have any bytes
    for word in words:
        if any("\ud800" <= char <= "\udfff" for char in word):  # undecodable bytes
            raise UsageError(
                f"the argument {word} is not valid UTF-8",
                remedy="write it in UTF-8, or set the terminal and LANG to UTF-8",
            )


def _extra_of(module: str) -> str:
    top = module.partition(".")[0]
    if top in ("rich", "yaml"):
        return "stack"
    if top in ("starlette", "uvicorn", "aiohttp", "sqlalchemy", "docker", "genai_prices"):
        return "services"
    return ""
