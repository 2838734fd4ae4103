"""How a call ended."""

from __future__ import annotations

from dataclasses import dataclass

from telemetry.services.proxy.ledger.operations import Status
from telemetry.services.proxy.pricing.usage import Tokens
from telemetry.services.proxy.settings import Upstream
from telemetry.services.proxy.upstream.wires import Context


@dataclass
class Outcome:
    """How a call ended, gathered on the way.

    Args:
        upstream: the last one asked.
        known: whether it took the model for one of its own.
        tokens: what was used, None where nothing was.
        context: what its price depends on, as asked for until the provider says otherwise.
        estimated: whether ``tokens`` is our estimate, not the provider's report.
        error_type: ``""`` where it went well.
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
