"""Simulated users who spend money on a simulated model, at the prices of the real ones."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

from telemetry.settings.stack import StackSettings
from telemetry.system import json_http

# Name, daily budget in USD, model. Carol's budget covers only a few calls.
USERS = (
    ("alice", 5.0, "claude-sonnet-4-6"),
    ("bob", 2.0, "gpt-4o-mini"),
    ("carol", 0.01, "claude-sonnet-4-6"),
)
CALL_S = 30.0
UNPRICED = "llama-of-my-own"


class Spenders:
    """The simulated users, each with a key.

    Args:
        settings: the proxy's address and its admin token.
    """

    def __init__(self, settings: StackSettings) -> None:
        self._proxy = settings.urls["proxy"]
        self._admin = {"authorization": f"Bearer {settings.admin_token}"}
        self.statuses: dict[str, Counter[int]] = {name: Counter() for name, _, _ in USERS}
        self._keys = {}
        for name, budget, _ in USERS:
            body = {"user_id": name, "daily_budget_usd": budget}
            made = json_http.post_json(f"{self._proxy}/api/keys", body, CALL_S, self._admin)
            self._keys[name] = made["key"]

    def spend(self, seconds: float) -> None:
        """Call the model for some seconds, one user after the other."""
        end = time.monotonic() + seconds
        turn = 0
        while time.monotonic() < end:
            for name, _, model in USERS:
                asked = UNPRICED if name == "bob" and turn == 3 else model
                self.statuses[name][self._call(name, asked)] += 1
            turn += 1
            time.sleep(0.3)

    def costs(self) -> list[dict[str, Any]]:
        """Read today's costs from the ledger: one row per user (user_id, calls, tokens, cost)."""
        url = f"{self._proxy}/api/costs?since=today&group=user"
        rows: list[dict[str, Any]] = json_http.get_json(url, CALL_S, self._admin)["rows"]
        return rows

    def _call(self, name: str, model: str) -> int:
        key = {"x-api-key": self._keys[name], "authorization": f"Bearer {self._keys[name]}"}
        message = [{"role": "user", "content": f"A question of {name}'s, of some length. " * 8}]
        body = {"model": model, "messages": message, "max_tokens": 200}
        path = "/v1/messages" if model.startswith("claude") else "/v1/chat/completions"
        headers = {"anthropic-version": "2023-06-01", "x-simulated": "chunks=120"}
        url = self._proxy + path
        return json_http.send(url, body, headers=key | headers, timeout_s=CALL_S).status
