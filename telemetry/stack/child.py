"""Start a process of the stack as the supervisor's child, and hold its state."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import re
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from telemetry.stack.processes import Process

_FOR_ENGINES = re.compile(
    r"(PATH|HOME|LANG|LC_.*|TZ|TMPDIR|SSL_CERT_.*|(https?|no|all)_proxy|GO[A-Z]+|GF_.*|TELEMETRY_.*)$",
    re.IGNORECASE,
)
_FOR_SERVICES = ("TELEMETRY_ADMIN_TOKEN", "TELEMETRY_GATEWAY_TOKEN")
_PR_SET_PDEATHSIG = 1


@dataclass
class Running:
    """A process with its child process and state."""

    process: Process
    child: asyncio.subprocess.Process | None = None
    task: asyncio.Task[None] | None = None
    started: float = 0.0
    restarts: int = 0
    deaths: int = 0
    wanted: bool = True
    last_exit: str = ""
    changing: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while the process is stopped or started: two concurrent restarts would leave it dead."""

    def to_json(self) -> dict[str, Any]:
        alive = self.child is not None and self.child.returncode is None
        return {
            "name": self.process.name,
            "url": self.process.url,
            "version": self.process.version,
            "service": self.process.is_service,
            "ready": self.process.ready,
            "pid": self.child.pid if alive and self.child else None,
            "since_s": time.time() - self.started if alive else 0.0,
            "restarts": self.restarts,
            "last_exit": self.last_exit,
        }


async def spawn(
    process: Process, output: int, child_env: Mapping[str, str], folder: Path
) -> asyncio.subprocess.Process:
    """Start a process.

    Args:
        process: the process.
        output: file descriptor for its stdout and stderr.
        child_env: the environment of which it gets a part.
        folder: its working folder.

    Raises:
        OSError: its program can't be started.
    """
    return await asyncio.create_subprocess_exec(
        *process.argv,
        env={**select_env(process, child_env), **process.env},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        cwd=folder,
        preexec_fn=_die_with_parent,
    )


def select_env(process: Process, child_env: Mapping[str, str]) -> dict[str, str]:
    """Select the environment variables for a process.

    Services get all of them, engines only those that they can use. Only the proxy gets the model
    providers' keys, and only services get the log-in tokens.
    """
    if process.name == "proxy":
        return dict(child_env)
    if process.is_service:
        return {key: value for key, value in child_env.items() if not key.endswith("_API_KEY")}
    return {
        key: value
        for key, value in child_env.items()
        if _FOR_ENGINES.match(key) and key not in _FOR_SERVICES and not key.endswith("_API_KEY")
    }


def _die_with_parent() -> None:
    os.setpgid(0, 0)  # Ctrl-C in the terminal must not reach the child
    with contextlib.suppress(OSError):  # Linux only
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
