"""How numbers look: colours, thresholds, texts for values, settings of single series."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from grafana_foundation_sdk.models import dashboard as model

GREEN, ORANGE, RED, BLUE, GREY = "green", "orange", "red", "blue", "text"
Steps = tuple[tuple[float, str], ...]
"""Thresholds, rising: (from this value, colour); the first also holds below its value."""
Texts = tuple[tuple[float, str, str], ...]
"""What is shown for values: (value, text, colour)."""
CALM: Steps = ((0, BLUE),)  # a number that is neither good nor bad


def thresholds(steps: Steps) -> model.ThresholdsConfig:
    """Grafana's form of ``steps``."""
    # The first step has no value: it holds for everything below the second.
    return model.ThresholdsConfig(
        mode=model.ThresholdsMode.ABSOLUTE,
        steps=[
            model.Threshold(value=value if place else None, color=colour)
            for place, (value, colour) in enumerate(steps)
        ],
    )


def mappings(texts: Texts) -> Sequence[model.ValueMap]:
    """Grafana's form of ``texts``."""
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


def override(name: str, **properties: object) -> model.DashboardFieldConfigSourceOverrides:
    """Settings of the field displayed as ``name``; ``custom__x`` is the property ``custom.x``."""
    return overriding(model.MatcherConfig(id_val="byName", options=name), properties)


def override_like(pattern: str, **properties: object) -> model.DashboardFieldConfigSourceOverrides:
    """Settings of the fields whose displayed name matches the regular expression."""
    return overriding(model.MatcherConfig(id_val="byRegexp", options=pattern), properties)


def overriding(
    matcher: model.MatcherConfig, properties: Mapping[str, object]
) -> model.DashboardFieldConfigSourceOverrides:
    """Settings of the fields that ``matcher`` picks."""
    return model.DashboardFieldConfigSourceOverrides(
        matcher,
        [
            model.DynamicConfigValue(name.replace("__", "."), value)
            for name, value in properties.items()
        ],
    )
