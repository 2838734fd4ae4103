"""How numbers look: colours, thresholds, texts for values, overrides for single series."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from grafana_foundation_sdk.models import dashboard as model

GREEN, ORANGE, RED, BLUE, GREY = "green", "orange", "red", "blue", "text"
Steps = tuple[tuple[float, str], ...]
"""Thresholds, rising: (from this value, colour); the first also holds below its value."""
Texts = tuple[tuple[float, str, str], ...]
"""Texts shown for values: (value, text, colour)."""
Override = model.DashboardFieldConfigSourceOverrides

NEUTRAL: Steps = ((0, BLUE),)  # for numbers that are neither good nor bad
ANY_IS_RED: Steps = ((0, GREEN), (1, RED))
ANY_IS_ORANGE: Steps = ((0, GREEN), (1, ORANGE))
RESTARTS: Steps = ((0, GREEN), (1, ORANGE), (4, RED))
FAILURES: Steps = ((0, GREEN), (0.01, ORANGE), (0.05, RED))  # a share of requests
NEARLY_FULL: Steps = ((0, GREEN), (0.8, ORANGE), (0.9, RED))  # a share of a limit or budget

STATE: Texts = ((0, "down", RED), (1, "running", GREEN))
HEALTH: Texts = ((0, "unhealthy", ORANGE), (1, "healthy", GREEN))
ANSWERING: Texts = ((0, "not answering", RED), (1, "answering", GREEN))


@dataclass(frozen=True)
class Scale:
    """How a panel's numbers are read.

    Args:
        unit: Grafana's unit id.
        steps: thresholds and their colours.
        least, most: the axis' or bar's ends.
        decimals: digits after the point; None lets Grafana choose.
        texts: shown for values.
        empty: text shown if there is no data.
    """

    unit: str = "short"
    steps: Steps = ((0, GREEN),)
    least: float | None = None
    most: float | None = None
    decimals: int | None = None
    texts: Texts = ()
    empty: str = ""


PLAIN = Scale()


def thresholds(steps: Steps) -> model.ThresholdsConfig:
    """Return ``steps`` as Grafana's model has them."""
    # Grafana's first step has no value: it holds for everything below the second.
    return model.ThresholdsConfig(
        mode=model.ThresholdsMode.ABSOLUTE,
        steps=[
            model.Threshold(value=value if place else None, color=colour)
            for place, (value, colour) in enumerate(steps)
        ],
    )


def mappings(texts: Texts) -> Sequence[model.ValueMap]:
    """Return ``texts`` as Grafana's model has them."""
    if not texts:
        return ()
    return (
        model.ValueMap(
            options={
                f"{value:g}": model.ValueMappingResult(text=text, color=colour, index=place)
                for place, (value, text, colour) in enumerate(texts)
            }
        ),
    )


def override(name: str, **properties: object) -> Override:
    """Override the field displayed as ``name``; ``custom__x`` is the property ``custom.x``."""
    return overriding(model.MatcherConfig(id_val="byName", options=name), properties)


def override_like(pattern: str, **properties: object) -> Override:
    """Override the fields whose displayed name matches the regular expression."""
    return overriding(model.MatcherConfig(id_val="byRegexp", options=pattern), properties)


def overriding(matcher: model.MatcherConfig, properties: Mapping[str, object]) -> Override:
    """Override the fields that ``matcher`` selects."""
    return Override(
        matcher,
        [
            model.DynamicConfigValue(name.replace("__", "."), value)
            for name, value in properties.items()
        ],
    )


def fixed(colour: str) -> dict[str, str]:
    """Return the property ``color`` for one colour."""
    return {"mode": "fixed", "fixedColor": colour}
