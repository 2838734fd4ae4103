"""/metrics and OTLP show the ledger's numbers, from one process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from telemetry import catalog, metrics, testing
from telemetry.services.proxy.app import create_app
from telemetry.services.proxy.call import Maximum
from telemetry.services.proxy.ledger import accounts, ledger
from telemetry.services.proxy.ledger.metrics import LedgerSource
from telemetry.services.proxy.ledger.operations import Reservation
from telemetry.services.proxy.ledger.schema import series
from telemetry.services.proxy.pricing.money import PICO
from telemetry.services.proxy.settings import Settings
from tests.fixtures.simulated import served
from tests.proxy.conftest import ADMIN, HELLO, Running, a_call, wait_for

BODY: dict[str, Any] = {"model": "claude-sonnet-4-6", "max_tokens": 20, "messages": HELLO}


def found(name: str) -> dict[tuple[str, ...], float]:
    """Series of one metric: label values in the labels' order."""
    return {
        tuple(value for _, value in sorted(labels)): number
        for (series, labels), number in testing.collect().items()
        if series == name
    }


def test_the_ledgers_series(proxy: Running, steer: Any) -> None:
    key = proxy.key("ann", daily_budget_usd=5)
    proxy.post("/v1/messages", key, BODY, **steer(input=100, cached=30, output=10))
    proxy.post("/v1/messages", key, BODY, **steer(status=500))
    proxy.post("/v1/messages", proxy.key("poor", daily_budget_usd="0"), BODY)
    first, _ = proxy.calls()
    model = "claude-sonnet-4-6"
    assert found("proxy_api_calls_total") == {
        (model, "ok", "ann"): 1,
        (model, "upstream_error", "ann"): 1,
    }
    assert found("proxy_api_cost_usd_total") == {(model, "ann"): first.cost / PICO}
    assert found("proxy_api_tokens_total")[("input", model, "ann")] == 100
    assert found("proxy_api_tokens_total")[("cache_read", model, "ann")] == 30
    assert found("proxy_quota_rejections_total") == {("ann",): 0, ("poor",): 1}
    assert found("proxy_user_cost_today_usd") == {("ann",): first.cost / PICO, ("poor",): 0}
    assert found("proxy_user_budget_usd") == {("ann",): 5, ("poor",): 0}
    assert found("proxy_unpriced_calls_total") == {(model,): 0}


@pytest.mark.parametrize("fault", ["status=400", "status=404", "status=429", "status=500"])
def test_unanswered_model_is_not_a_label(proxy: Running, fault: str) -> None:
    """The names have a price: prices go by the beginning of a name."""
    key = proxy.key()
    for number in range(5):
        junk = {**BODY, "model": f"claude-sonnet-4-5-junk{number}"}
        answer = proxy.post("/v1/messages", key, junk, **{"x-simulated": fault})
        assert answer.status_code == int(fault.removeprefix("status="))
    assert {row.model for row in proxy.calls()} == {f"claude-sonnet-4-5-junk{n}" for n in range(5)}
    status = "upstream_error" if fault in ("status=429", "status=500") else "client_error"
    assert found("proxy_api_calls_total") == {("other", status, "ann"): 5}
    assert "junk" not in str(testing.collect())


def test_server_that_answers_any_name_makes_a_limited_number_of_labels(
    start_proxy: Callable[..., Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "MOST_MODELS", 3)
    for proxy in (start_proxy(), start_proxy()):
        key = proxy.key()
        for number in range(5):
            made_up = {**BODY, "model": f"claude-sonnet-4-5-junk{number}"}
            assert proxy.post("/v1/messages", key, made_up).status_code == 200
        proxy.calls()
    kept = {f"claude-sonnet-4-5-junk{number}" for number in range(3)}
    labels = {(model, calls) for (model, _, _), calls in found("proxy_api_calls_total").items()}
    assert labels == {(model, 2) for model in kept} | {("other", 4)}
    assert "junk4" not in str(testing.collect())


def test_answered_model_keeps_its_label(start_proxy: Callable[..., Running], steer: Any) -> None:
    first = start_proxy()
    key = first.key()
    first.post("/v1/messages", key, BODY)
    first.post("/v1/messages", key, BODY, **steer(status=500))
    assert len(first.calls()) == 2
    second = start_proxy()
    second.post("/v1/messages", key, BODY, **steer(status=400))
    assert len(second.calls()) == 3
    with first.proxy.ledger.engine.connect() as connection:
        rows = connection.execute(select(series.c.model, series.c.status)).all()
    model = "claude-sonnet-4-6"
    assert sorted(rows) == [
        (model, "client_error"),
        (model, "ok"),
        (model, "upstream_error"),
    ]


def test_expired_call_has_the_label_of_an_answered_model(proxy: Running) -> None:
    key = proxy.key()
    proxy.post("/v1/messages", key, BODY)
    for model in (BODY["model"], "claude-sonnet-4-5-junk"):
        verdict = asyncio.run(
            proxy.proxy.ledger.reserve(a_call(key, model, Maximum(1, 1)), lasts_ms=0, wait_ms=0)
        )
        assert isinstance(verdict, Reservation)
    wait_for(lambda: len(proxy.calls(status="expired")) == 2)
    assert found("proxy_api_calls_total") == {
        ("claude-sonnet-4-6", "ok", "ann"): 1,
        ("claude-sonnet-4-6", "expired", "ann"): 1,
        ("other", "expired", "ann"): 1,
    }


def test_counters_start_when_the_ledger_first_had_them(proxy: Running) -> None:
    proxy.post("/v1/messages", proxy.key(), BODY)
    (row,) = proxy.calls()
    points = list(LedgerSource(proxy.proxy.ledger).collect())
    (calls,) = [point for point in points if point.metric is catalog.PROXY_API_CALLS]
    began = calls.start_time_ns // 1_000_000
    assert row.started_ms <= began <= row.ended_ms + 1000


def test_one_process_reports_the_ledger_and_another_takes_over(
    start_proxy: Callable[..., Running],
) -> None:
    one = start_proxy()
    wait_for(lambda: one.proxy.ledger.leads)
    two = start_proxy()
    two.post("/v1/messages", two.key(), BODY)
    assert not two.proxy.ledger.leads
    one.proxy.ledger.stop()
    wait_for(lambda: two.proxy.ledger.leads, 15)


def test_genai_metrics(proxy: Running, steer: Any) -> None:
    key = proxy.key()
    proxy.post("/v1/messages", key, {**BODY, "stream": True}, **steer(chunks=5))
    proxy.post("/v1/messages", key, BODY, **steer(status=500))
    assert len(proxy.calls()) == 2
    recorded = testing.collect()

    def count(name: str, **labels: str) -> float:
        return sum(
            value
            for (series, had), value in recorded.items()
            if series == name and labels.items() <= dict(had).items()
        )

    model = {"gen_ai_request_model": "claude-sonnet-4-6", "gen_ai_provider_name": "anthropic"}
    assert count("gen_ai_client_operation_duration_seconds", **model) == 2
    assert count("gen_ai_client_operation_duration_seconds", error_type="http_500") == 1
    assert count("gen_ai_client_token_usage", gen_ai_token_type="output", **model) == 1
    assert count("gen_ai_server_time_to_first_token_seconds", **model) == 1
    assert count("gen_ai_server_time_per_output_token_seconds", **model) == 1


@pytest.mark.parametrize("ledger_url", ["sqlite"], indirect=True)
def test_the_metrics_page_of_the_instrumented_app(
    ledger_url: str, simulated_upstream: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "none")
    monkeypatch.setenv("OTEL_LOGS_EXPORTER", "none")
    environ = {
        "TELEMETRY_HOME": str(tmp_path),
        "TELEMETRY_ADMIN_TOKEN": "admin-secret",
        "TELEMETRY_LEDGER_URL": ledger_url,
        "TELEMETRY_ANTHROPIC_URL": simulated_upstream,
    }
    with testing.isolated():
        app = create_app(Settings.from_env(environ))
        with served(app) as url:
            new = httpx.get(f"{url}/metrics", headers=ADMIN).text
            held = metrics.current().sources[0]._ledger  # type: ignore[attr-defined]
            key = accounts.create_key(held.engine, "ann", {"daily_budget": PICO}).key
            traceparent = "00-" + "ab" * 16 + "-" + "cd" * 8 + "-01"
            answer = httpx.post(
                f"{url}/v1/messages",
                json=BODY,
                headers={"x-api-key": key, "traceparent": traceparent},
            )
            assert answer.status_code == 200
            call = httpx.get(
                f"{url}/api/calls/{answer.headers['x-telemetry-call-id']}",
                headers={"x-api-key": key},
            )
            assert call.json()["trace_id"] == "ab" * 16
            page = httpx.get(f"{url}/metrics", headers=ADMIN).text
    wanted = [m for m in catalog.METRICS.values() if m.name.startswith(("proxy.", "gen_ai."))]
    assert len(wanted) > 10
    for metric in wanted:
        assert f"# TYPE {metric.prometheus} {metric.kind}\n" in new, "declared from the start"
        assert f"# TYPE {metric.prometheus} {metric.kind}\n" in page
    assert 'http_route="/v1/messages"' in page
