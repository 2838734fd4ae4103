"""One base for every error this package raises on purpose.

An error says what happened, where, and what to do about it. The command line prints
``error: message`` and ``  -> remedy`` and exits with the error's own code.
"""

from __future__ import annotations


class TelemetryError(Exception):
    """An error the user can fix.

    Args:
        message: what happened and where, one line.
        remedy: what to do about it, one line; empty where the message already says it.
        exit_code: the process exit code the command line uses, 1 to 125.
    """

    def __init__(self, message: str, *, remedy: str = "", exit_code: int = 1) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.exit_code = exit_code


class UsageError(TelemetryError):
    """A command line, or one of its arguments, that can't be used.

    Args:
        message: what is wrong with it.
        remedy: how to use it.
    """

    def __init__(self, message: str, *, remedy: str) -> None:
        super().__init__(message, remedy=remedy, exit_code=64)  # EX_USAGE of sysexits.h


class ConfigError(TelemetryError):
    """A setting has a value that can't be used.

    Args:
        key: the environment variable or argument.
        value: what it was set to (never a secret's value).
        expected: what would have been right.
    """

    def __init__(self, key: str, value: str, expected: str) -> None:
        super().__init__(
            f"{key}={value!r} is not {expected}",
            remedy=f"set {key} to {expected}, or unset it for the default",
            exit_code=78,  # EX_CONFIG of sysexits.h
        )
        self.key = key
