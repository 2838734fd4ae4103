"""The admin API and the command line change and read the same ledger."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from telemetry.cli import main
from telemetry.services.proxy.pricing.money import usd
from tests.proxy.conftest import ADMIN, HELLO, Running

BODY: dict[str, Any] = {"model": "claude-sonnet-4-6", "max_tokens": 20, "messages": HELLO}


def test_keys_are_made_listed_used_and_revoked(proxy: Running) -> None:
    url = f"{proxy.url}/api/keys"
    made = httpx.post(
        url, headers=ADMIN, json={"user_id": "ann", "daily_budget_usd": 2.5, "tokens_per_minute": 9}
    )
    assert made.status_code == 201
    key = made.json()
    assert set(key) == {"id", "user_id", "key"}
    assert key["key"].startswith("tk-")
    assert len(key["key"]) == 46, "32 random bytes"
    (listed,) = httpx.get(url, headers=ADMIN).json()["keys"]
    assert key["key"] not in json.dumps(listed)
    shown = (listed["user_id"], listed["daily_budget_usd"], listed["tokens_per_minute"])
    assert shown == ("ann", "2.5", 9)
    httpx.put(f"{proxy.url}/api/users/ann/budget", headers=ADMIN, json={"tokens_per_minute": None})
    assert proxy.post("/v1/messages", key["key"], BODY).status_code == 200
    revoked = httpx.delete(f"{url}/{key['id']}", headers=ADMIN)
    assert revoked.json() == {"id": key["id"], "revoked": True}
    assert proxy.post("/v1/messages", key["key"], BODY).status_code == 401


def test_ledger_never_contains_the_key_itself(proxy: Running) -> None:
    key = proxy.key()
    with proxy.proxy.ledger.engine.connect() as connection:
        rows = connection.exec_driver_sql("SELECT * FROM keys").all()
    assert key not in str(rows)


@pytest.mark.parametrize("token", ["", "wrong", "admin-secre"])
def test_admin_api_requires_its_token(proxy: Running, token: str) -> None:
    headers = {"authorization": f"Bearer {token}"} if token else {}
    for method, path in (
        ("POST", "/api/keys"),
        ("GET", "/api/keys"),
        ("DELETE", "/api/keys/x"),
        ("PUT", "/api/users/ann/budget"),
        ("GET", "/api/costs"),
    ):
        assert httpx.request(method, proxy.url + path, headers=headers).status_code == 401


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/api/keys", {}, 400),
        ("POST", "/api/keys", {"user_id": "a b"}, 400),
        ("POST", "/api/keys", {"user_id": "ann", "daily_budget_usd": "much"}, 400),
        ("POST", "/api/keys", {"user_id": "ann", "daily_budget_usd": -1}, 400),
        ("POST", "/api/keys", {"user_id": "ann", "requests_per_minute": 1.5}, 400),
        ("PUT", "/api/users/nobody/budget", {"daily_budget_usd": 1}, 404),
        ("DELETE", "/api/keys/nothing", None, 404),
        ("GET", "/api/costs?since=yesterday", None, 400),
        ("GET", "/api/costs?group=planet", None, 400),
    ],
)
def test_invalid_admin_requests_are_refused(
    proxy: Running, method: str, path: str, body: Any, status: int
) -> None:
    answer = httpx.request(method, proxy.url + path, headers=ADMIN, json=body)
    assert answer.status_code == status
    assert answer.json()["error"]["message"]


def test_costs_add_up_by_any_grouping(proxy: Running, steer: Any) -> None:
    ann, bob = proxy.key("ann"), proxy.key("bob")
    for key, model in (
        (ann, "claude-sonnet-4-6"),
        (ann, "claude-haiku-4-5"),
        (bob, "claude-haiku-4-5"),
    ):
        sent = {**BODY, "model": model}
        assert proxy.post("/v1/messages", key, sent, **steer(input=100, output=10)).is_success
    assert len(proxy.calls()) == 3

    def costs(query: str = "") -> Any:
        return httpx.get(f"{proxy.url}/api/costs{query}", headers=ADMIN).json()

    total = "0.00075"
    assert costs()["total_usd"] == total
    assert costs()["rows"][0] == {
        "user_id": "ann",
        "model": "claude-sonnet-4-6",
        "calls": 1,
        "tokens_in": 100,
        "tokens_out": 10,
        "unpriced": 0,
        "cost_usd": "0.00045",
    }
    assert [(row["user_id"], row["cost_usd"]) for row in costs("?group=user")["rows"]] == [
        ("ann", "0.0006"),
        ("bob", "0.00015"),
    ]
    assert [row["calls"] for row in costs("?group=model")["rows"]] == [1, 2]
    (day,) = costs("?group=day&since=today")["rows"]
    assert (len(day["day"]), day["cost_usd"]) == (10, total)
    assert costs("?user=bob")["total_usd"] == "0.00015"
    assert costs("?model=claude-haiku-4-5")["total_usd"] == "0.0003"
    assert costs("?since=2999-01-01") == {"rows": [], "total_usd": "0"}


def test_the_command_line(
    proxy: Running,
    ledger_url: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("TELEMETRY_LEDGER_URL", ledger_url)

    def run(*args: str) -> str:
        assert main(args) == 0
        return capsys.readouterr().out

    key = run("keys", "create", "ann", "--daily-usd", "1.50").split()[0]
    assert proxy.post("/v1/messages", key, BODY).status_code == 200
    assert len(proxy.calls()) == 1
    listed = json.loads(run("keys", "list", "--json"))
    assert listed[0]["daily_budget_usd"] == "1.5"
    shown = run("keys", "list")
    assert listed[0]["id"] in shown
    assert "1.5" in shown
    assert "20" in run("keys", "budget", "ann", "--daily-usd", "none", "--monthly-usd", "20")
    report = json.loads(run("costs", "--json"))
    assert report["rows"][0]["calls"] == 1
    table = run("costs", "--since", "today")
    assert "claude-sonnet-4-6" in table
    assert report["total_usd"] in table
    assert "revoked" in run("keys", "revoke", listed[0]["id"])
    assert proxy.post("/v1/messages", key, BODY).status_code == 401
    assert main(["keys", "revoke", "nothing"]) == 66
    assert "  -> " in capsys.readouterr().err
    assert main(["keys", "create", "ann", "--requests-per-minute", "many"]) == 64


@pytest.mark.parametrize("ledger_url", ["sqlite"], indirect=True)
def test_tables_fit_a_terminal_and_cut_nothing_short(
    proxy: Running,
    ledger_url: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("TELEMETRY_LEDGER_URL", ledger_url)
    user = "ann.of-a-house-with-a-rather-long-name@mail.example.com"
    key = proxy.key(user, daily_budget_usd="1234.56", tokens_per_minute=1_000_000)
    assert proxy.post("/v1/messages", key, BODY).status_code == 200
    (row,) = proxy.calls()

    def shown(*args: str) -> str:
        assert main(args) == 0
        return re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)

    wanted = (
        (("keys", "list"), (row.key_id, "1234.56", "1000000")),
        (("costs",), (usd(row.cost),)),
    )
    for command, whole in wanted:
        piped = shown(*command)
        assert user in piped
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("COLUMNS", "80")
        seen = shown(*command)
        assert max(len(line) for line in seen.splitlines()) <= 80
        for text in whole:
            assert text in seen
        assert "…" not in seen.replace(f"…{key[-4:]}", "")
        monkeypatch.delenv("FORCE_COLOR")
        monkeypatch.delenv("COLUMNS")


def test_the_command_line_starts_without_the_services_packages() -> None:
    """Its module is imported by every command; it must stay light."""
    code = (
        "import sys, telemetry.services.proxy.commands; "
        "assert not {'sqlalchemy', 'rich', 'aiohttp', 'genai_prices'} & set(sys.modules)"
    )
    subprocess.run(
        [sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2], timeout=60
    )
