"""`curl :port/metrics` of the running proxy returns every planned metric."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import anthropic
import httpx
import openai
import pytest
from genai_prices import Usage, calc_price
from prometheus_client.parser import text_string_to_metric_families

from telemetry.services.proxy.ledger import accounts
from telemetry.services.proxy.ledger.migrations import open_ledger
from telemetry.services.proxy.ledger.stores import parse_url
from tests.proxy.conftest import ADMIN, HELLO, Process, wait_for

OPERATION = "gen_ai_operation_name gen_ai_provider_name gen_ai_request_model"
SECONDS = [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92]
TOKENS = [4.0**power for power in range(14)]
# Kind, labels, buckets; the last as the semantic conventions recommend.
PLAN: dict[str, tuple[str, str, list[float]]] = {
    "proxy_api_calls_total": ("counter", "user_id model status", []),
    "proxy_api_cost_usd_total": ("counter", "user_id model", []),
    "proxy_quota_rejections_total": ("counter", "user_id", []),
    "proxy_user_cost_today_usd": ("gauge", "user_id", []),
    "proxy_user_budget_usd": ("gauge", "user_id", []),
    "proxy_unpriced_calls_total": ("counter", "model", []),
    "proxy_upstream_errors_total": ("counter", "provider kind", []),
    "gen_ai_client_token_usage": ("histogram", f"{OPERATION} gen_ai_token_type", TOKENS),
    "gen_ai_client_operation_duration_seconds": ("histogram", OPERATION, SECONDS),
    "gen_ai_server_time_to_first_token_seconds": (
        "histogram",
        OPERATION,
        [0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10],
    ),
    "gen_ai_server_time_per_output_token_seconds": (
        "histogram",
        OPERATION,
        [0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5],
    ),
}


@pytest.fixture
def keys(ledger_url: str) -> dict[str, str]:
    """Keys of ann, who has a budget, and of poor, who has spent it."""
    engine = open_ledger(parse_url(ledger_url))
    made = {
        user: accounts.create_key(engine, user, accounts.limits({"daily_budget_usd": usd})).key
        for user, usd in (("ann", 5), ("poor", 0))
    }
    engine.dispose()
    return made


def spend(url: str, key: str) -> tuple[Decimal, int]:
    """Calls by both providers' SDKs; what the usage they report costs, and their tokens."""
    total, count = Decimal(0), 0
    steering = {"x-simulated": "input=123,cached=45,output=67,reasoning=8,chunks=9"}
    with (
        anthropic.Anthropic(base_url=url, api_key=key) as one,
        openai.OpenAI(base_url=f"{url}/v1", api_key=key) as two,
    ):
        ask: Any = {"model": "claude-sonnet-4-6", "max_tokens": 99, "messages": HELLO}
        with one.messages.stream(**ask, extra_headers=steering) as stream:
            messages = [stream.get_final_message()]
        messages.append(one.messages.create(**ask, extra_headers=steering))
        for used in (message.usage for message in messages):
            read = used.cache_read_input_tokens or 0
            usage = Usage(
                input_tokens=used.input_tokens + read,
                cache_read_tokens=read,
                output_tokens=used.output_tokens,
            )
            total += calc_price(usage, ask["model"], provider_id="anthropic").total_price
            count += used.input_tokens + read + used.output_tokens
        chat: Any = {"model": "gpt-4.1", "messages": HELLO, "extra_headers": steering}
        *_, last = two.chat.completions.create(
            **chat, stream=True, stream_options={"include_usage": True}
        )
        answers = [last.usage, two.chat.completions.create(**chat).usage]
        for reported in answers:
            assert reported is not None
            assert reported.prompt_tokens_details is not None
            usage = Usage(
                input_tokens=reported.prompt_tokens,
                cache_read_tokens=reported.prompt_tokens_details.cached_tokens,
                output_tokens=reported.completion_tokens,
            )
            total += calc_price(usage, "gpt-4.1", provider_id="openai").total_price
            count += reported.total_tokens
        with pytest.raises(anthropic.InternalServerError):
            one.with_options(max_retries=0).messages.create(
                **ask, extra_headers={"x-simulated": "status=500"}
            )
        two.chat.completions.create(model="simulated-gpt", messages=HELLO)
    return total, count


def test_every_metric_of_the_plan(
    start: Callable[..., Process], ledger_url: str, keys: dict[str, str]
) -> None:
    process = start()
    cost, tokens = spend(process.url, keys["ann"])
    refused = httpx.post(
        f"{process.url}/v1/messages",
        headers={"x-api-key": keys["poor"]},
        json={"model": "claude-sonnet-4-6", "max_tokens": 9, "messages": HELLO},
    )
    assert refused.status_code == 429
    report = wait_for(
        lambda: (
            (found := httpx.get(f"{process.url}/api/costs", headers=ADMIN).json())["rows"]
            and sum(row["calls"] for row in found["rows"]) == 6
            and found
        )
    )
    page = httpx.get(f"{process.url}/metrics", headers=ADMIN).text
    families = {}
    for family in text_string_to_metric_families(page):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        families[name] = family
    for name, (kind, labels, buckets) in PLAN.items():
        family = families[name]
        assert family.type == kind, name
        assert family.samples, name
        wanted = set(labels.split())
        for sample in family.samples:
            had = set(sample.labels) - {"le", "worker", "error_type"}
            assert had == wanted, (name, sample)
        bounds = [float(sample.labels["le"]) for sample in family.samples if "le" in sample.labels]
        assert bounds[: len(buckets) + 1] == ([*buckets, float("inf")] if buckets else []), name

    def sums(name: str, **labels: str) -> float:
        return sum(
            sample.value
            for sample in families[name].samples
            if labels.items() <= sample.labels.items()
        )

    assert Decimal(report["total_usd"]) == cost, "the ledger, to the last digit"
    by_model = [Decimal(row["cost_usd"]) for row in report["rows"]]
    shown = [sample.value for sample in families["proxy_api_cost_usd_total"].samples]
    assert sorted(shown) == sorted(map(float, by_model)), "and the metrics"
    assert sums("proxy_user_cost_today_usd", user_id="ann") == float(cost)
    assert sums("proxy_user_budget_usd", user_id="ann") == 5
    counted = sum(
        sums("proxy_api_tokens_total", model=model, kind=kind)
        for model in ("claude-sonnet-4-6", "gpt-4.1")
        for kind in ("input", "cache_read", "cache_write", "output")
    )
    assert counted == tokens
    assert sums("proxy_api_calls_total", status="ok") == 5
    assert sums("proxy_api_calls_total", status="upstream_error") == 1
    assert sums("proxy_quota_rejections_total", user_id="poor") == 1
    assert sums("proxy_unpriced_calls_total", model="simulated-gpt") == 1
    assert sums("proxy_upstream_errors_total", provider="anthropic", kind="http_500") == 1


@pytest.mark.parametrize("ledger_url", ["sqlite"], indirect=True)
def test_it_listens_on_every_address_it_is_given(
    start: Callable[..., Process], ledger_url: str
) -> None:
    process = start("--host", "127.0.0.1", "--host", "127.0.0.2")
    for host in ("127.0.0.1", "127.0.0.2"):
        assert httpx.get(f"http://{host}:{process.port}/health").json() == {"status": "ok"}
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.3:{process.port}/health")
    assert process.stop() == 0
