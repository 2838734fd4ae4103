"""No budget is overspent by a race, and no call is refused without need."""

from __future__ import annotations

import itertools
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from telemetry.services.proxy.ledger.call_ids import now_ms
from telemetry.services.proxy.ledger.quota import MS_PER_DAY, Period
from telemetry.services.proxy.pricing.money import usd
from telemetry.services.proxy.pricing.prices import PriceBook
from telemetry.services.proxy.pricing.usage import Tokens
from tests.proxy.conftest import HELLO, Running, wait_for

Start = Callable[..., Running]
SONNET = "claude-sonnet-4-6"
BODY: dict[str, Any] = {"model": SONNET, "max_tokens": 100, "messages": HELLO}
# What each call is made to cost: less than it reserves.
RATES = PriceBook(None).rates("anthropic", SONNET)
assert RATES is not None
COST = RATES.cost(Tokens(input=10, output=100))


def reservation(proxy: Running, key: str) -> int:
    """What a call like BODY reserves, learnt from one."""
    assert proxy.post("/v1/messages", key, BODY).status_code == 200
    return int(proxy.calls()[-1].reserved)


def storm(
    urls: list[str],
    key: str,
    count: int,
    headers: dict[str, str],
    path: str = "/v1/messages",
    body: dict[str, Any] = BODY,
) -> list[httpx.Response]:
    """``count`` calls at once, spread over ``urls``."""
    barrier = threading.Barrier(count)

    def one(index: int) -> httpx.Response:
        barrier.wait(30)
        return httpx.post(
            f"{urls[index % len(urls)]}{path}",
            json=body,
            timeout=60,
            headers={"x-api-key": key, **headers},
        )

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


def test_hundred_concurrent_calls_never_overspend_a_budget(proxy: Running, steer: Any) -> None:
    most = reservation(proxy, proxy.key("probe"))
    # The n-th call may go while (n - 1) are paid for and the most it can cost still fits.
    budget = 36 * COST + most
    key = proxy.key("ann", daily_budget_usd=usd(budget))
    answers = storm([proxy.url], key, 100, steer(input=10, output=100))
    assert Counter(answer.status_code for answer in answers) == {200: 37, 429: 63}
    user = proxy.user()
    assert user.day_spent == 37 * COST <= budget
    assert (user.reserved, user.reserved_tokens, user.rejections) == (0, 0, 63)
    assert len(proxy.calls(user_id="ann")) == 37


def test_two_proxies_share_one_budget(start_proxy: Start, steer: Any) -> None:
    one, two = start_proxy(), start_proxy()
    most = reservation(one, one.key("probe"))
    budget = 19 * COST + most
    key = one.key("ann", daily_budget_usd=usd(budget))
    answers = storm([one.url, two.url], key, 60, steer(input=10, output=100))
    statuses = [answer.status_code for answer in answers]
    assert (statuses.count(200), statuses.count(429)) == (20, 40)
    assert two.proxy.ledger.settled()
    user = one.user()
    assert (user.day_spent, user.reserved, user.rejections) == (20 * COST, 0, 40)


def test_call_waits_for_a_blocking_reservation(proxy: Running, steer: Any) -> None:
    most = reservation(proxy, proxy.key("probe"))
    # Room for one call at a time, though not for two reservations.
    key = proxy.key("ann", daily_budget_usd=usd(most + COST))
    headers = steer(input=10, output=5, delay=0.4)
    answers = storm([proxy.url], key, 3, headers)
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert proxy.user().rejections == 0


def test_call_waiting_for_budget_gets_429_with_retry_after(proxy: Running, steer: Any) -> None:
    most = reservation(proxy, proxy.key("probe"))
    key = proxy.key("ann", daily_budget_usd=usd(most))
    answers = storm([proxy.url], key, 2, steer(input=10, output=5, delay=3))
    assert sorted(answer.status_code for answer in answers) == [200, 429]
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert "still running" in refused.json()["error"]["message"]
    assert (refused.headers["retry-after"], "x-should-retry" in refused.headers) == ("1", False)


def test_requests_per_minute_are_exact(proxy: Running) -> None:
    for attempt in itertools.count():
        key = proxy.key(f"ann{attempt}", requests_per_minute=5)
        minute = Period.at(now_ms()).minute
        statuses = [answer.status_code for answer in storm([proxy.url], key, 12, {})]
        if Period.at(now_ms()).minute == minute:
            break  # all within one minute
    assert (statuses.count(200), statuses.count(429)) == (5, 7)


def test_monthly_budget_and_limits_that_change(proxy: Running) -> None:
    key = proxy.key("ann", monthly_budget_usd="0.0000001")
    refused = proxy.post("/v1/messages", key, BODY)
    assert (refused.status_code, "UTC month" in refused.text) == (429, True)
    admin = {"authorization": "Bearer admin-secret"}
    changed = httpx.put(
        f"{proxy.url}/api/users/ann/budget", headers=admin, json={"monthly_budget_usd": None}
    )
    assert changed.json()["monthly_budget_usd"] is None
    assert proxy.post("/v1/messages", key, BODY).status_code == 200


def test_tokens_per_minute(proxy: Running) -> None:
    key = proxy.key("ann", tokens_per_minute=50)
    refused = proxy.post("/v1/messages", key, BODY)
    assert (refused.status_code, "lower its maximum" in refused.text) == (429, True)


def test_a_day_ends_at_midnight_utc(proxy: Running) -> None:
    """The figure of another day is void: made so here, rather than by waiting for midnight."""
    from sqlalchemy import update

    from telemetry.services.proxy.ledger import schema

    key = proxy.key("ann", daily_budget_usd="1")
    assert proxy.post("/v1/messages", key, BODY).status_code == 200
    today = proxy.user().day
    with proxy.proxy.ledger.engine.begin() as connection:
        connection.execute(
            update(schema.users).values(day=today - 1, day_spent=10**12, month_spent=0)
        )
    assert proxy.post("/v1/messages", key, BODY).status_code == 200
    user = proxy.user()
    assert (user.day, user.day_spent) == (today, proxy.calls()[-1].cost)


def test_call_that_only_refers_to_its_input_is_admitted(proxy: Running, steer: Any) -> None:
    """They may cost a whole window, and a budget below that can be used all the same."""
    body = {
        "model": "gpt-5",
        "input": "go on",
        "previous_response_id": "resp_1",
        "max_output_tokens": 100,
    }
    rates = PriceBook(None).rates("openai", "gpt-5")
    assert rates is not None
    cost = rates.cost(Tokens(input=300_000, output=100))
    key = proxy.key("ann", daily_budget_usd=usd(2 * cost + cost // 2))
    headers = steer(input=300_000, output=100)
    answers = storm([proxy.url], key, 12, headers, "/v1/responses", body)
    statuses = [answer.status_code for answer in answers]
    assert (statuses.count(200), statuses.count(429)) == (3, 9)
    # The last had a window in view that was more than what was left, and went alone.
    assert proxy.user().day_spent == 3 * cost
    assert all(row.reserved > rates.cost(Tokens(input=400_000)) for row in proxy.calls())
    small = proxy.key("bob", daily_budget_usd="0.10")
    answers = storm([proxy.url], small, 3, steer(input=1000, output=1), "/v1/responses", body)
    assert [answer.status_code for answer in answers] == [200, 200, 200]


def test_text_is_reserved_by_its_size(proxy: Running) -> None:
    table = "\n".join(f"{n},{n * 7919 % 99991},{n % 1009}" for n in range(14_000))
    content = [{"type": "text", "text": "Here is my file."}, {"type": "text", "text": table}]
    body = {**BODY, "messages": [{"role": "user", "content": content}]}
    refused = proxy.post("/v1/messages", proxy.key("ann", daily_budget_usd="0.10"), body)
    assert (refused.status_code, "don't cover" in refused.text) == (429, True)


def test_clock_that_was_ahead_leaves_limits_on(proxy: Running, steer: Any) -> None:
    """A machine's clock may be far ahead until NTP has set it."""
    ahead_ms = 43 * MS_PER_DAY

    def clock() -> int:
        return now_ms() + ahead_ms

    most = reservation(proxy, proxy.key("probe"))
    ann = proxy.key("ann", daily_budget_usd=usd(3 * COST + most - 1))
    bob = proxy.key("bob", requests_per_minute=3)
    writer = proxy.proxy.ledger._writer
    writer._thread.batch._clock = clock
    if writer._quick is not None:
        writer._quick._clock = clock
    headers = steer(input=10, output=100)
    for key in (ann, bob):
        assert proxy.post("/v1/messages", key, BODY, **headers).status_code == 200
    assert proxy.user().day == Period.at(clock()).day
    ahead_ms = 0
    statuses = [proxy.post("/v1/messages", ann, BODY, **headers).status_code for _ in range(4)]
    assert statuses == [200, 200, 429, 429]
    assert proxy.user().day_spent == 3 * COST
    for _ in range(4):
        assert proxy.post("/v1/messages", bob, BODY, **headers).status_code == 200
        ahead_ms += 60_000


def test_an_unpriced_model_is_served_counted_and_flagged(proxy: Running) -> None:
    from telemetry import testing

    answer = proxy.post("/v1/messages", proxy.key(), {**BODY, "model": "simulated-claude"})
    assert answer.status_code == 200
    (row,) = proxy.calls()
    assert (row.status, row.cost, bool(row.priced)) == ("ok", 0, False)
    assert row.output > 0
    key = ("proxy_unpriced_calls_total", (("model", "simulated-claude"),))
    assert wait_for(lambda: testing.collect().get(key)) == 1


@pytest.mark.parametrize("ledger_url", ["sqlite"], indirect=True)
def test_locked_ledger_delays_calls_but_not_health(proxy: Running, ledger_url: str) -> None:
    key = proxy.key()
    assert proxy.post("/v1/messages", key, BODY).status_code == 200
    holder = sqlite3.connect(ledger_url.removeprefix("sqlite:///"), isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(proxy.post, "/v1/messages", key, BODY)
        with httpx.Client(base_url=proxy.url, timeout=2) as client:
            for _ in range(20):
                assert client.get("/health").status_code == 200
        assert not waiting.done()
        holder.execute("COMMIT")
        assert waiting.result(30).status_code == 200
    holder.close()
    assert len(proxy.calls()) == 2
    assert proxy.user().reserved == 0
