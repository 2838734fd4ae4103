"""The base class of all errors that this package raises on purpose.

An error says what happened, where, and what to do. The command line prints ``error: message`` and
``  -> remedy``, and exits with the error's code.
"""

from __future__ import annotations


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
