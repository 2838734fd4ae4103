"""Tokens of a call by kind, read from what the providers report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any


@dataclass(slots=True)
class Tokens:
    """Billable units of one call. Input kinds don't overlap; output has two subsets.

    Args:
        input: input tokens read neither from nor written to a cache.
        cache_read: input tokens read from the provider's cache.
        cache_write: input tokens written to it for the shorter time (Anthropic: 5 minutes).
        cache_write_1h: input tokens written to it for an hour.
        output: all output tokens.
        reasoning: of these, the ones spent on reasoning.
        audio_input: of ``input``, audio tokens.
        audio_output: of ``output``, audio tokens.
        searches: web searches the provider made.
    """

    input: int = 0
    cache_read: int = 0
    cache_write: int = 0
    cache_write_1h: int = 0
    output: int = 0
    reasoning: int = 0
    audio_input: int = 0
    audio_output: int = 0
    searches: int = 0

    @property
    def input_total(self) -> int:
        """Every input token, cached or not."""
        return self.input + self.cache_read + self.cache_write + self.cache_write_1h

    def add(self, other: Tokens) -> None:
        """Count another part of the same call in."""
        for kind in KINDS:
            setattr(self, kind, min(MOST_TOKENS, getattr(self, kind) + getattr(other, kind)))


KINDS = tuple(field.name for field in fields(Tokens))
# More than any call can have; larger figures are nonsense, and sums must fit in 64 bits.
MOST_TOKENS = 100_000_000


def _count(usage: Mapping[str, Any] | None, key: str) -> int:
    value = usage.get(key) if usage else None
    if value is None or isinstance(value, bool):
        return 0
    # Some compatible servers send 12.0; anything that isn't a count, NaN included, is ignored.
    return int(value) if isinstance(value, (int, float)) and 0 <= value <= MOST_TOKENS else 0


def _nested(usage: Mapping[str, Any], key: str) -> Mapping[str, Any] | None:
    value = usage.get(key)
    return value if isinstance(value, dict) else None


def from_anthropic(usage: Mapping[str, Any]) -> Tokens:
    """Read Anthropic's usage: ``input_tokens`` excludes cached tokens, and the totals exclude
    compacting the conversation, which is reported among the iterations.

    Source: https://docs.claude.com/en/docs/build-with-claude/prompt-caching,
    https://docs.claude.com/en/docs/build-with-claude/compaction
    """
    tokens = _of_anthropic(usage)
    iterations = usage.get("iterations")
    for entry in iterations if isinstance(iterations, list) else ():
        if isinstance(entry, dict) and entry.get("type") == "compaction":
            tokens.add(_of_anthropic(entry))
    return tokens


def _of_anthropic(usage: Mapping[str, Any]) -> Tokens:
    written = _count(usage, "cache_creation_input_tokens")
    hour = _count(_nested(usage, "cache_creation"), "ephemeral_1h_input_tokens")
    output = _count(usage, "output_tokens")
    return Tokens(
        input=_count(usage, "input_tokens"),
        cache_read=_count(usage, "cache_read_input_tokens"),
        cache_write=max(0, written - hour),
        cache_write_1h=hour,
        output=output,
        reasoning=min(output, _count(_nested(usage, "output_tokens_details"), "thinking_tokens")),
        searches=_count(_nested(usage, "server_tool_use"), "web_search_requests"),
    )


def from_openai(usage: Mapping[str, Any]) -> Tokens:
    """Read OpenAI's usage, of chat completions, responses or embeddings: input tokens include
    cached ones, output tokens include reasoning.

    Other providers of this format (xAI, Gemini) exclude reasoning from the output, and include it
    only in the total.

    Source: https://platform.openai.com/docs/guides/prompt-caching,
    https://docs.x.ai/docs/key-information/consumption-and-rate-limits
    """
    if "prompt_tokens" in usage:
        given, said = "prompt_tokens", "completion_tokens"
        details_in, details_out = "prompt_tokens_details", "completion_tokens_details"
    else:
        given, said = "input_tokens", "output_tokens"
        details_in, details_out = "input_tokens_details", "output_tokens_details"
    inputs, outputs = _nested(usage, details_in), _nested(usage, details_out)
    total = _count(usage, given)
    cached = min(total, _count(inputs, "cached_tokens"))
    written = min(total - cached, _count(inputs, "cache_write_tokens"))
    fresh = total - cached - written
    output = _count(usage, said)
    if total:
        # Without input, a total says nothing about the output: some embeddings report only it.
        output = max(output, _count(usage, "total_tokens") - total)
    return Tokens(
        input=fresh,
        cache_read=cached,
        cache_write=written,
        output=output,
        reasoning=min(output, _count(outputs, "reasoning_tokens")),
        audio_input=min(fresh, _count(inputs, "audio_tokens")),
        audio_output=min(output, _count(outputs, "audio_tokens")),
    )
