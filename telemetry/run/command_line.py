"""Parse a server's command line: its app, a name for the service, its listen address."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from telemetry.errors import UsageError

_APP = re.compile(r"([A-Za-z_][\w.]*):[A-Za-z_][\w.]*(?:\(.*\))?")
_INTERPRETER = re.compile(r"python[\d.]*")


@dataclass(frozen=True)
class _Options:
    """Options of a server that set its listen address.

    Args:
        host: options for the host.
        port: options for the port.
        bind: options for both, ``HOST:PORT``.
        unknowable: options with which its address can't be found here, such as a socket's.
        variables: prefix of the environment variables that set options.
        files: configuration files, and options that name one. A file may set the address, but the
            command line overrides it.
        default_port: used if nothing sets the port.
    """

    host: tuple[str, ...] = ("--host",)
    port: tuple[str, ...] = ("--port",)
    bind: tuple[str, ...] = ()
    unknowable: tuple[str, ...] = ("--uds", "--fd")
    variables: str = ""
    files: tuple[str, ...] = ()
    default_port: int = 8000


_SERVERS = {
    "uvicorn": _Options(variables="UVICORN_"),
    "gunicorn": _Options(
        host=(),
        port=(),
        bind=("-b", "--bind"),
        unknowable=("--reuse-port",),
        files=("-c", "--config", "gunicorn.conf.py"),
    ),
    "hypercorn": _Options(
        host=(),
        port=(),
        bind=("-b", "--bind"),
        unknowable=("--quic-bind", "--insecure-bind"),
        files=("-c", "--config"),
    ),
    "granian": _Options(variables="GRANIAN_"),
    "daphne": _Options(
        host=("-b", "--bind"),
        port=("-p", "--port"),
        unknowable=("-u", "--unix-socket", "--fd", "-e", "--endpoint"),
    ),
    "datasette": _Options(host=("-h", "--host"), port=("-p", "--port"), default_port=8001),
}


def service_name(command: Sequence[str]) -> str:
    """Derive a service name: the module of ``module:app``, or the program."""
    for argument in command[1:]:
        if match := _APP.fullmatch(argument):
            module = match[1]
            last = module.rpartition(".")[2]
            return module if last in ("app", "main", "asgi", "application") else last
    return program(command)


def address(
    command: Sequence[str], child_env: Mapping[str, str], folder: Path
) -> tuple[str, int] | None:
    """Find the host and port that the server will listen on; None if they can't be known.

    Args:
        command: the command line.
        child_env: its environment.
        folder: its working folder.

    Raises:
        UsageError: the port is greater than 65535.
    """
    options = _SERVERS.get(program(command))
    if options is None or child_env.get("LISTEN_FDS"):
        return None
    prefix = options.variables
    host = child_env.get(f"{prefix}HOST", "") if prefix else ""
    port = child_env.get(f"{prefix}PORT", "") if prefix else ""
    if prefix and (child_env.get(f"{prefix}UDS") or child_env.get(f"{prefix}FD")):
        return None
    given = False
    for name, value in _options(command):
        if name in options.unknowable:
            return None
        if name in options.host:
            host = value
        elif name in options.port:
            port, given = value, True
        elif name in options.bind:
            if given:
                return None  # several addresses: no one of them is the service's
            host, _, port = value.rpartition(":") if ":" in value else (value, "", "")
            given = True
    if not given and options.files and _has_configuration(options, command, child_env, folder):
        return None
    if not given and "gunicorn" in program(command) and child_env.get("PORT"):
        host, port = "0.0.0.0", child_env["PORT"]
    port = port or str(options.default_port)
    if not port.isdecimal() or not int(port[:9]) or host in ("unix", "fd"):
        return None
    if int(port[:9]) > 65535:
        raise UsageError(f"{port[:20]} is not a port", remedy="use a port from 1 to 65535")
    return (host.strip("[]") or "127.0.0.1"), int(port)


def _has_configuration(
    options: _Options, command: Sequence[str], child_env: Mapping[str, str], folder: Path
) -> bool:
    given = {name for name, _ in _options(command)}
    return (
        any(name in given or (folder / name).is_file() for name in options.files)
        or "GUNICORN_CMD_ARGS" in child_env
    )


def _options(command: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Iterate over options and values, in the forms ``--a b``, ``--a=b`` and ``-ab``."""
    for i, argument in enumerate(command):
        following = command[i + 1] if i + 1 < len(command) else ""
        if argument.startswith("--"):
            name, equals, value = argument.partition("=")
            yield name, value if equals else following
        elif argument.startswith("-"):
            yield argument[:2], argument[2:].removeprefix("=") or following


def program(command: Sequence[str]) -> str:
    """Find the program's name; for ``python -m module`` and ``python script.py`` that of the
    module or script."""
    name = Path(command[0]).name
    if _INTERPRETER.fullmatch(name):
        for i, argument in enumerate(command[1:], 1):
            if argument == "-m" and i + 1 < len(command):
                return command[i + 1].partition(".")[0]
            if argument == "-c":
                break
            if not argument.startswith("-"):
                return Path(argument).name.removesuffix(".py")
    return name
