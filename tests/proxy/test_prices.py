"""Integer rates give the same costs as genai-prices, to the last digit."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from genai_prices import Usage, calc_price
from genai_prices.data_snapshot import get_snapshot

from telemetry.errors import TelemetryError
from telemetry.services.proxy.pricing.money import PICO, pico, usd
from telemetry.services.proxy.pricing.prices import PriceBook
from telemetry.services.proxy.pricing.usage import Tokens, from_anthropic, from_openai

USED = Tokens(
    input=1237, cache_read=611, cache_write=401, cache_write_1h=97, output=883, reasoning=191
)
LONG = Tokens(input=300_001, cache_read=7, output=11)


def theirs(provider: str, model: str, tokens: Tokens) -> Decimal:
    usage = Usage(
        input_tokens=tokens.input_total,
        cache_read_tokens=tokens.cache_read,
        cache_write_tokens=tokens.cache_write + tokens.cache_write_1h,
        cache_write_1h_tokens=tokens.cache_write_1h,
        output_tokens=tokens.output,
        output_reasoning_tokens=tokens.reasoning,
    )
    return calc_price(usage, model, provider_id=provider).total_price


def test_every_anthropic_and_openai_model_costs_what_genai_prices_says() -> None:
    book = PriceBook(None)
    checked = 0
    for provider in get_snapshot().providers:
        if provider.id not in ("anthropic", "openai"):
            continue
        for model in provider.models:
            rates = book.rates(provider.id, model.id)
            if rates is None:
                continue
            for tokens in (USED, LONG, Tokens(input=1), Tokens()):
                expected = theirs(provider.id, model.id, tokens)
                assert Decimal(rates.cost(tokens)) == expected * PICO, (model.id, tokens)
            checked += 1
    assert checked > 50


def test_a_tier_holds_for_all_tokens_of_a_call() -> None:
    rates = PriceBook(None).rates("anthropic", "claude-sonnet-4-5")
    assert rates is not None
    assert rates.cost(Tokens(input=200_000)) == pico("0.6")
    assert rates.cost(Tokens(input=200_001)) == 200_001 * 6 * 10**6


def test_maximum_covers_every_possible_cost() -> None:
    rates = PriceBook(None).rates("anthropic", "claude-sonnet-4-6")
    assert rates is not None
    most = rates.most(1000, 500, caches=True)
    for used in (
        Tokens(input=1000, output=500),
        Tokens(cache_write=1000, output=500),
        Tokens(cache_write_1h=1000, output=500, reasoning=500),
    ):
        assert rates.cost(used) <= most
    assert rates.cost(Tokens(cache_write_1h=1000, output=500)) == most


def test_us_inference_costs_a_tenth_more_except_searches() -> None:
    book, us = PriceBook(None), (("inference_geo", "us"),)
    tokens = replace(USED, searches=3)
    for model in ("claude-opus-4-6", "claude-sonnet-4-6", "claude-sonnet-4-5"):
        plain, dearer = book.rates("anthropic", model), book.rates("anthropic", model, us)
        assert plain is not None
        assert dearer is not None
        for used in (USED, LONG):
            assert 10 * dearer.cost(used) == 11 * plain.cost(used)
        assert dearer.cost(tokens) - dearer.cost(USED) == 3 * pico("0.01")


def test_unknown_model_is_unpriced_not_free() -> None:
    assert PriceBook(None).rates("anthropic", "claude-unheard-of") is None


def test_the_price_file_wins(tmp_path: Path) -> None:
    path = tmp_path / "prices.toml"
    path.write_text(
        '[models."claude-sonnet-4-6"]\ninput = "1"\noutput = "2"\ncache_read = "0.000001"\n'
        '[models."local-*"]\ninput = 0\nper_call = "0.5"\n'
    )
    book = PriceBook(path)
    rates = book.rates("anthropic", "claude-sonnet-4-6")
    assert rates is not None
    assert rates.cost(Tokens(input=1, cache_read=1, output=1)) == 10**6 + 1 + 2 * 10**6
    assert rates.version.startswith("prices.toml ")
    local = book.rates("", "local-7b")
    assert local is not None
    assert local.cost(USED) == pico("0.5")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("models = 3", "no table"),
        ("[models.x]\noutput = 1", "no `input`"),
        ("[models.x]\ninput = -1", "not a price"),
        ("[models.x]\ninput = 1\nimput = 2", "unknown key 'imput'"),
        ("[models.x", "can't be read"),
    ],
)
def test_a_bad_price_file_says_what_is_wrong(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "prices.toml"
    path.write_text(text)
    with pytest.raises(TelemetryError, match=said) as caught:
        PriceBook(path)
    assert caught.value.remedy


def test_money_is_exact_both_ways() -> None:
    assert usd(pico("1.50")) == "1.5"
    assert usd(pico(0.1)) == "0.1"
    assert usd(1) == "0.000000000001"
    assert usd(0) == "0"
    assert usd(-pico(2)) == "-2"
    for bad in ("x", -1, True, float("nan"), 10**9):
        with pytest.raises(ValueError, match="USD"):
            pico(bad)


def test_cached_tokens_are_counted_once_by_either_way_of_reporting() -> None:
    anthropic = from_anthropic(
        {
            "input_tokens": 10,
            "cache_read_input_tokens": 20,
            "cache_creation_input_tokens": 12,
            "cache_creation": {"ephemeral_5m_input_tokens": 5, "ephemeral_1h_input_tokens": 7},
            "output_tokens": 4,
        }
    )
    assert anthropic == Tokens(input=10, cache_read=20, cache_write=5, cache_write_1h=7, output=4)
    openai = from_openai(
        {
            "prompt_tokens": 30,
            "completion_tokens": 9,
            "prompt_tokens_details": {"cached_tokens": 20},
            "completion_tokens_details": {"reasoning_tokens": 6},
        }
    )
    assert openai == Tokens(input=10, cache_read=20, output=9, reasoning=6)


def test_invalid_usage_counts_as_zero() -> None:
    usage = {"prompt_tokens": "many", "completion_tokens": -3, "prompt_tokens_details": []}
    assert from_openai(usage) == Tokens()
    for count in (1e400, float("nan"), 10**30, True):
        assert from_anthropic({"input_tokens": count, "output_tokens": 1}) == Tokens(output=1)
