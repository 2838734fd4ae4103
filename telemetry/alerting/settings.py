"""What the alerts are told: limits, channels, links."""

from __future__ import annotations

from dataclasses import dataclass

from telemetry.alerting.channels import Channels
from telemetry.alerting.links import Links
from telemetry.alerting.thresholds import Thresholds
from telemetry.settings.declare import Declared, derived


@dataclass(frozen=True)
class AlertSettings(Declared):
    """Everything that the rules and notices are rendered from.

    Args:
        links: where notices link to.
        channels: where notices go.
        thresholds: what the rules compare with.
    """

    links: Links = derived(Links.from_env)
    channels: Channels = derived(Channels.from_env)
    thresholds: Thresholds = derived(Thresholds.from_env)
