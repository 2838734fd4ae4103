"""What the platform can't do for a caller, with the HTTP status that says so."""

from __future__ import annotations

from telemetry.errors import TelemetryError


class Problem(TelemetryError):
    """A request that can't be served.

    Args:
        status: the HTTP status.
        message: what is wrong.
        remedy: what to do about it.
    """

    def __init__(self, status: int, message: str, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.status = status
