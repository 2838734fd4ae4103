"""The parts of a proxy, which its endpoints share."""

from __future__ import annotations

from dataclasses import dataclass

from telemetry.services.proxy.genai_metrics import GenAIMetrics
from telemetry.services.proxy.ledger.ledger import Ledger
from telemetry.services.proxy.pricing.prices import PriceBook
from telemetry.services.proxy.settings import Settings
from telemetry.services.proxy.upstream.client import Upstreams


@dataclass
class Proxy:
    """Everything that an endpoint of the proxy works with."""

    settings: Settings
    ledger: Ledger
    prices: PriceBook
    upstreams: Upstreams
    metrics: GenAIMetrics
