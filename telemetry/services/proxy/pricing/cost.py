"""The cost of a call: its tokens at its model's rates, in integer picodollars."""

from __future__ import annotations

from dataclasses import dataclass

from telemetry.services.proxy.pricing.usage import Tokens

_ATTO_PER_PICO = 10**6


@dataclass(frozen=True, slots=True)
class Rate:
    """The price of one unit of each kind and of one call, in 10^-18 USD."""

    input: int
    cache_read: int
    cache_write: int
    cache_write_1h: int
    output: int
    reasoning: int
    audio_input: int
    audio_output: int
    searches: int
    per_call: int


@dataclass(frozen=True, slots=True)
class Rates:
    """A model's rates.

    Args:
        tiers: (input tokens above which it holds, rate), rising; a tier's rate holds for all
            tokens of a call, not only for those above.
        version: where the price comes from.
    """

    tiers: tuple[tuple[int, Rate], ...]
    version: str

    def _rate(self, input_total: int) -> Rate:
        chosen = self.tiers[0][1]
        for start, rate in self.tiers[1:]:
            if input_total > start:
                chosen = rate
        return chosen

    def cost(self, tokens: Tokens) -> int:
        """Return the cost of ``tokens`` in picodollars, exact but for a final rounding half up."""
        rate = self._rate(tokens.input_total)
        plain_out = tokens.output - tokens.reasoning - tokens.audio_output
        atto = (
            (tokens.input - tokens.audio_input) * rate.input
            + tokens.audio_input * rate.audio_input
            + tokens.cache_read * rate.cache_read
            + tokens.cache_write * rate.cache_write
            + tokens.cache_write_1h * rate.cache_write_1h
            + plain_out * rate.output
            + tokens.reasoning * rate.reasoning
            + tokens.audio_output * rate.audio_output
            + tokens.searches * rate.searches
            + rate.per_call
        )
        return (atto + _ATTO_PER_PICO // 2) // _ATTO_PER_PICO

    def most(self, input_tokens: int, output_tokens: int, *, caches: bool) -> int:
        """Return the most a call can cost, in picodollars: ``input_tokens`` at the highest input
        rate that applies (cache writes count if ``caches``), all output at the highest.
        """
        rate = self._rate(input_tokens)
        dearest_in = max(rate.input, rate.audio_input)
        if caches:
            dearest_in = max(dearest_in, rate.cache_write, rate.cache_write_1h)
        dearest_out = max(rate.output, rate.reasoning, rate.audio_output)
        atto = input_tokens * dearest_in + output_tokens * dearest_out + rate.per_call
        return -(-atto // _ATTO_PER_PICO)
