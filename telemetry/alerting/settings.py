"""Settings of the alerts: thresholds, channels, links."""

from __future__ import annotations

from dataclasses import dataclass

from telemetry.alerting.channels import Channels
from telemetry.alerting.links import Links
from telemetry.alerting.thresholds import Thresholds
from telemetry.settings.declare import Declared, derived


@dataclass(frozen=True)
class AlertSettings(Declared):
    """Settings from which rules and notices are rendered.

    Args:
        links: base addresses of the links in notices.
        channels: channels that notices are sent through.
        thresholds: thresholds of the rules.
    """

    links: Links = derived(Links.from_env)
    channels: Channels = derived(Channels.from_env)
    thresholds: Thresholds = derived(Thresholds.from_env)
