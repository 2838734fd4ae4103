"""Admitting calls by a user's limits and figures."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from telemetry.services.proxy.ledger.call_ids import Ids, first_of, parse, text
from telemetry.services.proxy.ledger.quota import MS_PER_DAY, Account, Blocked, Period, Refusal
from telemetry.services.proxy.pricing.money import pico

NOW = int(datetime(2026, 12, 31, 23, 59, 30, tzinfo=UTC).timestamp() * 1000)
EMPTY = Account("ann", None, None, None, None, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)


def account(**fields: int | None) -> Account:
    found = replace(EMPTY, **fields)  # type: ignore[arg-type]
    found.roll(Period.at(NOW))
    for name in ("day_spent", "month_spent", "minute_requests", "minute_tokens"):
        if name in fields:
            setattr(found, name, fields[name])
    return found


def test_account_without_limits_admits_everything() -> None:
    assert account().check(pico(100), 10**9, NOW) is None


def test_a_budget_is_spent_to_the_last_picodollar() -> None:
    mine = account(daily_budget=100, day_spent=90)
    assert mine.check(10, 0, NOW) is None
    refusal = mine.check(11, 0, NOW)
    assert isinstance(refusal, Refusal)
    assert (refusal.kind, refusal.retry_after_s, refusal.retry) == ("daily_budget", 30, False)


def test_spent_budget_refuses_even_free_calls() -> None:
    assert isinstance(account(daily_budget=100, day_spent=100).check(0, 0, NOW), Refusal)
    assert isinstance(account(daily_budget=0).check(0, 0, NOW), Refusal)


def test_open_reservations_block_but_do_not_refuse() -> None:
    mine = account(daily_budget=100, day_spent=50, reserved=45)
    assert isinstance(mine.check(10, 0, NOW), Blocked)
    assert mine.check(5, 0, NOW) is None


def test_a_month_ends_with_the_year() -> None:
    refusal = account(monthly_budget=10, month_spent=10).check(1, 0, NOW)
    assert isinstance(refusal, Refusal)
    assert (refusal.kind, refusal.retry_after_s) == ("monthly_budget", 30)


def test_requests_and_tokens_of_a_minute() -> None:
    refusal = account(requests_per_minute=5, minute_requests=5).check(0, 0, NOW)
    assert isinstance(refusal, Refusal)
    assert (refusal.kind, refusal.retry_after_s, refusal.retry) == ("requests", 30, True)
    mine = account(tokens_per_minute=1000, minute_tokens=600)
    assert mine.check(0, 400, NOW) is None
    refusal = mine.check(0, 401, NOW)
    assert isinstance(refusal, Refusal)
    assert (refusal.kind, refusal.retry) == ("tokens", True)
    refusal = mine.check(0, 1001, NOW)
    assert isinstance(refusal, Refusal)
    assert (refusal.kind, refusal.retry) == ("too_large", False)


def test_hidden_cost_is_admitted_but_runs_alone() -> None:
    mine = account(daily_budget=100, monthly_budget=200, day_spent=70, tokens_per_minute=1000)
    assert isinstance(mine.check(31, 0, NOW), Refusal)
    assert mine.check(500, 9000, NOW, hidden_amount=470, hidden_tokens=8000) is None
    assert isinstance(mine.check(500, 0, NOW, hidden_amount=469), Refusal)
    assert isinstance(mine.check(0, 9000, NOW, hidden_tokens=7999), Refusal)
    mine.reserve(1, 1)
    assert isinstance(mine.check(500, 0, NOW, hidden_amount=470), Blocked)
    assert isinstance(mine.check(0, 9000, NOW, hidden_tokens=8500), Blocked)
    assert mine.check(29, 999, NOW, hidden_amount=20, hidden_tokens=20) is None
    mine.release(1, 1)
    mine.reserve(500, 9000)
    assert isinstance(mine.check(1, 0, NOW), Blocked), "nor does another go beside it"
    assert isinstance(mine.check(0, 1, NOW), Blocked)


def test_periods_roll_and_never_go_back() -> None:
    mine = account(day_spent=5, month_spent=5, minute_requests=5, minute_tokens=5)
    mine.roll(Period.at(NOW + 30_000))
    figures = (mine.day_spent, mine.month_spent, mine.minute_requests, mine.minute_tokens)
    assert figures == (0, 0, 0, 0)
    mine.day_spent = 7
    mine.roll(Period.at(NOW))
    assert mine.day_spent == 7
    assert mine.day == Period.at(NOW + 30_000).day


def test_figures_of_a_clock_that_was_ahead_move_to_the_present() -> None:
    ahead = Period.at(NOW + 43 * MS_PER_DAY)
    mine = account(daily_budget=100, monthly_budget=100, requests_per_minute=3)
    mine.roll(ahead)
    mine.day_spent = mine.month_spent = 60
    mine.minute_requests = mine.minute_tokens = 3
    mine.roll(Period.at(NOW))
    assert (mine.day_spent, mine.month_spent) == (60, 60), "what was spent is kept"
    assert (mine.day, mine.month) == (Period.at(NOW).day, Period.at(NOW).month)
    mine.charge(Period.at(NOW), 30, 0)
    mine.charge(ahead, 10, 0)  # began under the wrong clock, ends under the right one
    assert (mine.day_spent, mine.month_spent) == (100, 100)
    assert isinstance(mine.check(1, 0, NOW), Refusal)
    mine.roll(Period.at(NOW + 60_000))
    assert (mine.day_spent, mine.minute_requests, mine.minute_tokens) == (0, 0, 0)


def test_a_call_is_charged_to_the_day_it_began_on() -> None:
    mine = account()
    began = Period.at(NOW)
    mine.reserve(10, 3)
    mine.roll(Period.at(NOW + 60_000))
    mine.release(10, 3)
    mine.charge(began, 8, 2)
    assert (mine.day_spent, mine.month_spent, mine.reserved, mine.reserved_tokens) == (0, 0, 0, 0)


def test_ids_rise_are_unique_and_find_a_span_of_time() -> None:
    one, two = Ids(1), Ids(2)
    found = [one.next(NOW) for _ in range(5000)] + [two.next(NOW) for _ in range(5000)]
    assert len(set(found)) == 10_000
    assert one.next(NOW - 1000) > max(found[:5000]), "a clock set back makes no lower id"
    assert first_of(NOW) <= min(found)
    assert max(found) < first_of(NOW + 100) < 2**63
    assert parse(text(found[0])) == found[0]
    for bad in ("", "call_", "call_zz", "call_" + "f" * 16, "12"):
        assert parse(bad) is None
