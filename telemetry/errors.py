"""The base class of all errors that this package raises on purpose.

An error says what happened, where, and what to do. The command line prints ``error: message`` and
``  -> remedy``, and exits with the error's code.
"""

from __future__ import annotations

# Those from 64 on are of sysexits.h; 126, 127 and 130 are the shell's.
EXIT_CODES = {
    0: "done; `status` and `doctor`: everything is healthy",
    1: "`status`, `doctor`: something is unhealthy; `search`: nothing was found; "
    "`alerts test`: a notice was not delivered",
    3: "the stack is not running",
    64: "wrong use of the command line",
    66: "not found: a key, a process's output, or the module or attribute that `run` should serve",
    69: "something is unavailable: an engine, a package, Loki, a port of the gateway",
    70: "a process did not start, or the app can't be loaded; its traceback is printed above",
    73: "a file or folder can't be written, such as the state folder",
    74: "the ledger can't be opened or read",
    75: "try again later: a port is taken, or another `up` or `down` is running",
    78: "a setting has a value that can't be used; the message names it",
    126: "`run`: the command is not executable",
    127: "`run`: there is no such command",
    130: "interrupted with Ctrl-C",
}


class TelemetryError(Exception):
    """An error the user can fix.

    Args:
        message: what happened and where, in one line.
        remedy: what to do, in one line; empty if the message says it.
        exit_code: the exit code of the command line, 1 to 125.
    """

    def __init__(self, message: str, *, remedy: str = "", exit_code: int = 1) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.exit_code = exit_code


class UsageError(TelemetryError):
    """An invalid command line or argument.

    Args:
        message: what is invalid.
        remedy: the correct usage.
    """

    def __init__(self, message: str, *, remedy: str) -> None:
        super().__init__(message, remedy=remedy, exit_code=64)  # EX_USAGE of sysexits.h


class UnwritableError(TelemetryError):
    """A folder that a setting names can't be written.

    Args:
        what: the folder, or what is in it, with its path.
        variable: the setting.
        error: the operating system's.
    """

    def __init__(self, what: str, variable: str, error: OSError) -> None:
        super().__init__(
            f"{what} can't be written: {error.strerror or error}",
            remedy=f"set {variable} to a folder that you can write",
            exit_code=73,  # EX_CANTCREAT of sysexits.h
        )


class ConfigError(TelemetryError):
    """An invalid value of a setting.

    Args:
        key: the environment variable or argument.
        value: the value (never that of a secret).
        expected: what a valid value is, e.g. "a whole number from 1 to 9".
    """

    def __init__(self, key: str, value: str, expected: str) -> None:
        super().__init__(
            f"{key}={value!r} is not {expected}",
            remedy=f"set {key} to {expected}, or unset it for the default",
            exit_code=78,  # EX_CONFIG of sysexits.h
        )
        self.key = key
