"""The command `telemetry logs`: show what the stack's processes printed."""

from __future__ import annotations

import os
import subprocess
import sys

from telemetry.errors import TelemetryError
from telemetry.settings.stack import StackSettings
from telemetry.stack.state_folder import StateFolder
from telemetry.system.escapes import escape_output


def show_logs(settings: StackSettings, name: str, follow: bool) -> int:
    """Print the output of processes; with ``follow``, keep printing new output.

    Raises:
        TelemetryError: there is no such output.
    """
    folder = StateFolder(settings.home)
    every = sorted(folder.output.glob("*.log"))
    paths = [path for path in every if name in ("", path.stem)]
    if not paths:
        known = ", ".join(path.stem for path in every)
        raise TelemetryError(
            f"no output of {name or 'any process'} in {folder.output}",
            remedy=f"use one of: {known}" if known else "start the stack with `telemetry up`",
            exit_code=66,  # EX_NOINPUT
        )
    tail = ["tail", "-n", "200", *(["-F"] if follow else []), *map(str, paths)]
    with subprocess.Popen(tail, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                text = line.decode(errors="backslashreplace").removesuffix("\n")
                sys.stdout.write(escape_output(text) + "\n")
                if follow:
                    sys.stdout.flush()
            sys.stdout.flush()
        except BrokenPipeError:
            # The reader, such as `head`, has ended. Python would complain when it exits.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        finally:
            process.terminate()
    return 0
