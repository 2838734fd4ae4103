"""Create and revoke containers' keys at the proxy, through its admin API."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from telemetry.services.http import HTTPError
from telemetry.system import json_http
from telemetry.system.json_http import AnswerError

TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Key:
    """A new key; its secret is known only now.

    Args:
        id: identifies the key when it is revoked.
        secret: what the container sends.
    """

    id: str
    secret: str = field(repr=False)


class ProxyKeys:
    """Client of the proxy's admin API. It blocks; call it in threads only.

    Args:
        url: the proxy's address.
        token: its admin token.
    """

    def __init__(self, url: str, token: str) -> None:
        self._url = url
        self._token = token

    def create(self, handle: str, daily_budget_usd: float | None = None) -> Key:
        """Create a key for the proxy user named like the handle.

        Args:
            handle: the user's name; the user is created if it does not exist.
            daily_budget_usd: the user's budget for a UTC day; None to leave it as it is.

        Raises:
            HTTPError: the proxy does not answer, or refuses.
        """
        budget = {} if daily_budget_usd is None else {"daily_budget_usd": daily_budget_usd}
        answer = self._ask("POST", "/api/keys", {"user_id": handle, **budget}, has="key")
        return Key(answer["id"], answer["key"])

    def has_user(self, handle: str) -> bool:
        """Return whether the proxy has a user named like the handle.

        Raises:
            HTTPError: the proxy does not answer, or refuses.
        """
        try:
            self._ask("PUT", f"/api/users/{handle}/budget", {})  # changes nothing
        except HTTPError as problem:
            if problem.status != 404:
                raise
            return False
        return True

    def revoke(self, key_id: str) -> None:
        """Revoke a key; ignored if it is gone already.

        Raises:
            HTTPError: the proxy does not answer, or refuses.
        """
        try:
            self._ask("DELETE", f"/api/keys/{key_id}")
        except HTTPError as problem:
            if problem.status != 404:
                raise

    def made_between(self, handle: str, from_ms: int, to_ms: int) -> list[str]:
        """Return ids of a handle's valid keys created within a time, Unix milliseconds.

        Raises:
            HTTPError: the proxy does not answer, or refuses.
        """
        return [
            key["id"]
            for key in self._ask("GET", "/api/keys", has="keys")["keys"]
            if key["user_id"] == handle
            and key["revoked_ms"] is None
            and from_ms <= key["created_ms"] <= to_ms
        ]

    def costs_today(self) -> dict[str, float]:
        """Return the cost since midnight UTC by handle, in USD.

        Raises:
            HTTPError: the proxy does not answer, or refuses.
        """
        rows = self._ask("GET", "/api/costs?since=today&group=user", has="rows")["rows"]
        return {row["user_id"]: float(row["cost_usd"]) for row in rows}

    def _ask(self, method: str, path: str, body: Any = None, *, has: str = "") -> Any:
        headers = {"authorization": f"Bearer {self._token}"}
        url = self._url + path
        try:
            answer = json_http.send(
                url, body, method=method, headers=headers, timeout_s=TIMEOUT_S
            ).json()
            if not isinstance(answer, dict) or (has and has not in answer):
                raise AnswerError("answered something that is not the proxy's", url)
            return answer
        except AnswerError as error:
            if error.status == 404:
                raise HTTPError(404, f"the proxy has no {path}") from None
            remedy = (
                "check that it has the same TELEMETRY_ADMIN_TOKEN"
                if error.status >= 400
                else "start it (telemetry proxy), set TELEMETRY_PROXY_URL to its address, or set "
                "TELEMETRY_PLATFORM_KEYS=false for containers without a key"
            )
            raise HTTPError(503, f"the proxy at {self._url} {error}", remedy) from None
