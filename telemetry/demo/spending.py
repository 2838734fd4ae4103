"""Users who spend money on a model: here a simulated one, priced like the real ones."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Mapping
from typing import Any

# name, budget a day in USD (None for none), model. Carol's lasts for a few calls only.
USERS = (
    ("alice", 5.0, "claude-sonnet-4-6"),
    ("bob", 2.0, "gpt-4o-mini"),
    ("carol", 0.01, "claude-sonnet-4-6"),
)
UNPRICED = "llama-of-my-own"


class Spenders:
    """Each with a key of their own.

    Args:
        proxy: the proxy's address.
        environ: with its admin token.
    """

    def __init__(self, proxy: str, environ: Mapping[str, str]) -> None:
        self._proxy = proxy
        self._admin = {"authorization": f"Bearer {environ['TELEMETRY_ADMIN_TOKEN']}"}
        self.statuses: dict[str, Counter[int]] = {name: Counter() for name, _, _ in USERS}
        self._keys = {}
        for name, budget, _ in USERS:
            body = {"user_id": name, "daily_budget_usd": budget}
            self._keys[name] = _post(f"{proxy}/api/keys", body, self._admin)[1]["key"]

    def spend(self, seconds: float) -> None:
        """Call for a while, each in turn."""
        end = time.monotonic() + seconds
        turn = 0
        while time.monotonic() < end:
            for name, _, model in USERS:
                asked = UNPRICED if name == "bob" and turn == 3 else model
                self.statuses[name][self._call(name, asked)] += 1
            turn += 1
            time.sleep(0.3)

    def costs(self) -> list[dict[str, Any]]:
        """What the ledger says, a row a user: user_id, calls, tokens and cost of today."""
        request = urllib.request.Request(
            f"{self._proxy}/api/costs?since=today&group=user", headers=self._admin
        )
        with urllib.request.urlopen(request, timeout=10) as response:
            rows: list[dict[str, Any]] = json.load(response)["rows"]
        return rows

    def _call(self, name: str, model: str) -> int:
        key = {"x-api-key": self._keys[name], "authorization": f"Bearer {self._keys[name]}"}
        message = [{"role": "user", "content": f"A question of {name}'s, of some length. " * 8}]
        body = {"model": model, "messages": message, "max_tokens": 200}
        path = "/v1/messages" if model.startswith("claude") else "/v1/chat/completions"
        headers = {"anthropic-version": "2023-06-01", "x-simulated": "chunks=120"}
        return _post(self._proxy + path, body, key | headers)[0]


def _post(url: str, body: Any, headers: Mapping[str, str]) -> tuple[int, Any]:
    request = urllib.request.Request(
        url, json.dumps(body).encode(), {"content-type": "application/json", **headers}
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            error.read()
        return error.code, None
