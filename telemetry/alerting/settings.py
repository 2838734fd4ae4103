"""What the alerts are told: limits, channels, links."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from telemetry.alerting.channels import Channels
from telemetry.alerting.render.links import Links
from telemetry.alerting.thresholds import Thresholds


@dataclass(frozen=True)
class AlertSettings:
    """Everything that the rules and notices are rendered from.

    Args:
        thresholds: what the rules compare with.
        channels: where notices go.
        links: where notices link to.
    """

    thresholds: Thresholds
    channels: Channels
    links: Links

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> AlertSettings:
        """Read the environment.

        Raises:
            ConfigError: a setting isn't what it should be.
            TelemetryError: a channel is half configured, or a variable names no setting.
        """
        return cls(
            links=Links.from_env(environ),
            channels=Channels.from_env(environ),
            thresholds=Thresholds.from_env(environ),
        )
