"""Whether this process can write the ledger."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from telemetry.services.proxy.ledger.operations import Reservation, Verdict
from telemetry.services.proxy.ledger.quota import Blocked

_log = logging.getLogger(__name__)


class Health:
    """The last failure to write the ledger, until a write succeeds.

    Attributes:
        problem: what keeps the ledger from being written, ``""`` if nothing does.
    """

    def __init__(self) -> None:
        self.problem = ""

    def failed(self, error: Exception) -> None:
        """Note a failure; the first of several is logged."""
        if not self.problem:
            _log.error("the ledger can't be written: %s", error)
        self.problem = str(error).strip() or "unknown database error"

    def decided(self, verdicts: Iterable[Verdict | Blocked]) -> None:
        """Note a transaction. A successful reserve proves that the ledger is writable; settles
        need almost no space.
        """
        if self.problem and any(isinstance(verdict, Reservation) for verdict in verdicts):
            self.problem = ""

    def recovered(self) -> None:
        """Note that calls can be written again."""
        self.problem = ""
