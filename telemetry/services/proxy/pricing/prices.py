"""Prices of tokens: genai-prices' table, converted once per model into integer rates.

genai-prices computes in Decimal, about 190 µs a call here. A price is linear in each kind of
token within a tier, so each model's rates are found by asking it for the price of one token
of each kind, and a call then costs a few integer multiplications, with the same result.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import time
import tomllib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from genai_prices import Usage
from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import ModelInfo, Provider, TieredPrices

from telemetry.errors import TelemetryError
from telemetry.services.proxy.pricing.cost import Rate, Rates

# Some tables carry prices with binary noise in them (0.18000000000000002); 10^-18 USD a token
# keeps twelve decimals of USD per million.
_ATTO_PER_USD = Decimal(10**18)
# USD per million tokens, or per call: sums of what a call costs must fit in 64 bits.
_MOST_USD = 10_000
# What inference within the US alone multiplies Anthropic's prices of tokens by, which the
# table leaves out: https://platform.claude.com/docs/en/about-claude/pricing
_IN_US = Decimal("1.1")
# Prices that depend on the time of day (off-peak) are looked up again this often.
REFRESH_S = 60.0

FILE_KEYS = [
    "input",
    "output",
    "cache_read",
    "cache_write",
    "cache_write_1h",
    "reasoning",
    "per_call",
]


class PriceBook:
    """Rates by provider and model, cached.

    Args:
        overrides: a TOML or JSON file with a table ``models``: name or glob to USD per
            million tokens (``input``, ``output``, ``cache_read``, ``cache_write``,
            ``cache_write_1h``, ``reasoning``) and USD ``per_call``. The first match wins
            over genai-prices. None for no file.
        clock: seconds since the epoch.
    """

    def __init__(self, overrides: Path | None, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        get_snapshot()  # read here, so that no call waits for it
        self._version = f"genai-prices {importlib.metadata.version('genai-prices')}"
        self._overrides: list[tuple[str, Rates]] = []
        self._cache: dict[tuple[str, str, tuple[tuple[str, str], ...]], tuple[float, Rates | None]]
        self._cache = {}
        if overrides is not None:
            self._overrides = read_overrides(overrides)

    def rates(
        self, provider: str, model: str, context: tuple[tuple[str, str], ...] = ()
    ) -> Rates | None:
        """Return a model's rates, or None if no price is known.

        Args:
            provider: genai-prices' provider id, or ``""`` to go by the model alone.
            model: as in the request.
            context: what else the price depends on, e.g. ``(("service_tier", "flex"),)``.
        """
        key = (provider, model, context)
        found = self._cache.get(key)
        if found is not None and self._clock() < found[0]:
            return found[1]
        # Names come from clients: a full cache is emptied rather than grow without limit.
        if len(self._cache) > 10_000:
            self._cache.clear()
        rates, lasts_s = self._look_up(provider, model, dict(context))
        self._cache[key] = (self._clock() + lasts_s, rates)
        return rates

    def _look_up(
        self, provider: str, model: str, context: Mapping[str, str]
    ) -> tuple[Rates | None, float]:
        for pattern, rates in self._overrides:
            if pattern == model or fnmatchcase(model, pattern):
                return rates, float("inf")
        try:
            owner, info = get_snapshot().find_provider_model(model, None, provider or None, None)
            tiers = _tiers(owner, info, context)
        except (LookupError, ValueError):
            return None, float("inf")
        lasts_s = REFRESH_S if isinstance(info.prices, list) else float("inf")
        return (Rates(tiers, self._version) if tiers else None), lasts_s


def _tiers(
    provider: Provider, info: ModelInfo, context: Mapping[str, str]
) -> tuple[tuple[int, Rate], ...]:
    """Return the rates of each tier; empty if the table has the model but no price for it."""
    price = info.get_prices(datetime.now(tz=UTC), context)
    values = [v for v in vars(price).values() if v is not None]
    if not values:
        return ()
    factor = _IN_US if context.get("inference_geo") == "us" else Decimal(1)
    starts = {tier.start for v in values if isinstance(v, TieredPrices) for tier in v.tiers}

    def cost(**usage: int) -> Decimal:
        calculated = info.calc_price(Usage(**usage), provider, price_context=context or None)
        return calculated.total_price

    def rate(base: int) -> Rate:
        floor = cost(input_tokens=base)

        def one(input_tokens: int = 0, **kind: int) -> int:
            return _atto((cost(input_tokens=base + input_tokens, **kind) - floor) * factor)

        return Rate(
            input=one(1),
            cache_read=one(1, cache_read_tokens=1),
            cache_write=one(1, cache_write_tokens=1),
            cache_write_1h=one(1, cache_write_tokens=1, cache_write_1h_tokens=1),
            output=one(output_tokens=1),
            reasoning=one(output_tokens=1, output_reasoning_tokens=1),
            audio_input=one(1, input_audio_tokens=1),
            audio_output=one(output_tokens=1, output_audio_tokens=1),
            searches=_atto(cost(input_tokens=base, web_searches=1) - floor),
            per_call=_atto(cost()),
        )

    return ((0, rate(0)), *((start, rate(start + 1)) for start in sorted(starts)))


def _atto(price_usd: Decimal) -> int:
    return int((price_usd * _ATTO_PER_USD).to_integral_value())


def read_overrides(path: Path) -> list[tuple[str, Rates]]:
    """Read the price file as (name or glob, rates), in its own order.

    Raises:
        TelemetryError: it can't be read, or contains an invalid price.
    """
    remedy = 'write e.g. [models."my-model"] with input = "3.00" and output = "15.00" (USD/Mtok)'
    try:
        raw = path.read_bytes()
        text = raw.decode()
        data = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except (OSError, ValueError) as error:
        raise TelemetryError(
            f"TELEMETRY_PRICES: {path} can't be read: {error}", remedy=remedy, exit_code=78
        ) from error
    models = data.get("models")
    if not isinstance(models, dict):
        raise TelemetryError(f"{path} has no table `models`", remedy=remedy, exit_code=78)
    version = f"{path.name} {hashlib.sha256(raw).hexdigest()[:8]}"
    return [(name, _from_file(path, name, spec, version)) for name, spec in models.items()]


def _from_file(path: Path, name: str, spec: Any, version: str) -> Rates:
    def fail(what: str) -> TelemetryError:
        return TelemetryError(
            f"{path}: models.{name}: {what}",
            remedy=f"known keys: {', '.join(FILE_KEYS)}; values in USD per million tokens",
            exit_code=78,
        )

    if not isinstance(spec, dict) or "input" not in spec:
        raise fail("has no `input` price")
    unknown = set(spec) - set(FILE_KEYS)
    if unknown:
        raise fail(f"unknown key {sorted(unknown)[0]!r}")
    per_unit: dict[str, int] = {}
    for key, value in spec.items():
        try:
            amount = Decimal(str(value))
        except ArithmeticError:
            raise fail(f"{key} = {value!r} is not a price") from None
        if not amount.is_finite() or not 0 <= amount <= _MOST_USD:
            raise fail(f"{key} = {value!r} is not a price from 0 to {_MOST_USD} USD")
        per_unit[key] = _atto(amount if key == "per_call" else amount / 10**6)
    given, said = per_unit["input"], per_unit.get("output", 0)
    rate = Rate(
        input=given,
        cache_read=per_unit.get("cache_read", given),
        cache_write=per_unit.get("cache_write", given),
        cache_write_1h=per_unit.get("cache_write_1h", per_unit.get("cache_write", given)),
        output=said,
        reasoning=per_unit.get("reasoning", said),
        audio_input=given,
        audio_output=said,
        searches=0,
        per_call=per_unit.get("per_call", 0),
    )
    return Rates(((0, rate),), version)
