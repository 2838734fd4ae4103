"""How a call ended."""

from __future__ import annotations

from dataclasses import dataclass

from telemetry.services.proxy.ledger.operations import Status
from telemetry.services.proxy.pricing.usage import Tokens
from telemetry.services.proxy.settings import Upstream
from telemetry.services.proxy.wires import Context


@dataclass
class Outcome:
    """How a call ended, filled in while it is made.

    Args:
        upstream: the last one asked.
        known: whether it knows the model.
        status: as the ledger keeps it.
        http_status: what the client was answered.
        tokens: what was used, None if nothing was.
        context: what the price depends on, as requested until the provider reports otherwise.
        estimated: whether ``tokens`` is our estimate, not the provider's report.
        error_type: as the metrics show it, ``""`` for success.
        first_s: from request to the first streamed bytes.
    """

    upstream: Upstream
    known: bool = False
    status: Status = "upstream_error"
    http_status: int = 502
    tokens: Tokens | None = None
    context: Context = ()
    estimated: bool = False
    error_type: str = ""
    first_s: float | None = None
