"""A running proxy over the simulated model, with a ledger in SQLite or PostgreSQL."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anthropic
import httpx
import openai
import pytest
from sqlalchemy import select

from telemetry import testing
from telemetry.services.proxy import accounts, schema
from telemetry.services.proxy.answer import Proxy
from telemetry.services.proxy.app import bare_app
from telemetry.services.proxy.settings import Settings
from tests.fixtures.simulated import served

ADMIN = {"authorization": "Bearer admin-secret"}
HELLO: Any = [{"role": "user", "content": "Hello out there"}]


def wait_for(found: Callable[[], Any], timeout_s: float = 10.0) -> Any:
    """What ``found`` gives once it is true."""
    deadline = time.monotonic() + timeout_s
    while not (value := found()):
        assert time.monotonic() < deadline, f"waited {timeout_s} s in vain"
        time.sleep(0.01)
    return value


@dataclass
class Running:
    """A proxy that runs in this process."""

    url: str
    proxy: Proxy
    stack: ExitStack

    def key(self, user: str = "ann", **limits: Any) -> str:
        """A new key; limits as the admin API has them."""
        return accounts.create_key(self.proxy.ledger.engine, user, accounts.limits(limits)).key

    def anthropic(self, key: str, **options: Any) -> anthropic.Anthropic:
        """Anthropic's own client."""
        client = anthropic.Anthropic(base_url=self.url, api_key=key, **options)
        return self.stack.enter_context(client)

    def openai(self, key: str, **options: Any) -> openai.OpenAI:
        """OpenAI's own client."""
        client = openai.OpenAI(base_url=f"{self.url}/v1", api_key=key, **options)
        return self.stack.enter_context(client)

    def post(self, path: str, key: str, body: Any, **headers: str) -> httpx.Response:
        """A plain request; ``body`` is JSON, or bytes sent as they are."""
        sent = {"x-api-key": key, "content-type": "application/json", **headers}
        content = {"content": body} if isinstance(body, bytes) else {"json": body}
        return httpx.post(f"{self.url}{path}", headers=sent, timeout=30, **content)

    def calls(self, **wanted: Any) -> list[Any]:
        """Settled rows of the ledger, oldest first."""
        assert self.proxy.ledger.settled()
        statement = select(schema.calls).where(schema.calls.c.status != "open")
        for column, value in wanted.items():
            statement = statement.where(schema.calls.c[column] == value)
        with self.proxy.ledger.engine.connect() as connection:
            return list(connection.execute(statement.order_by(schema.calls.c.id)))

    def user(self, user: str = "ann") -> Any:
        """A user's row."""
        assert self.proxy.ledger.settled()
        statement = select(schema.users).where(schema.users.c.user_id == user)
        with self.proxy.ledger.engine.connect() as connection:
            return connection.execute(statement).one()


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def ledger_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A ledger of each kind."""
    if request.param == "postgres":
        return str(request.getfixturevalue("postgres_database"))
    return f"sqlite:///{tmp_path / 'ledger.db'}"


@pytest.fixture
def start_proxy(
    ledger_url: str, simulated_upstream: str, tmp_path: Path
) -> Iterator[Callable[..., Running]]:
    """Starts proxies over one ledger, with settings by environment variable."""
    with testing.isolated(), ExitStack() as stack:

        def start(**environ: str) -> Running:
            settings = Settings.from_env(
                {
                    "TELEMETRY_HOME": str(tmp_path),
                    "TELEMETRY_LEDGER_URL": ledger_url,
                    "TELEMETRY_ANTHROPIC_URL": simulated_upstream,
                    "TELEMETRY_OPENAI_URL": simulated_upstream,
                    "TELEMETRY_ADMIN_TOKEN": "admin-secret",
                    **environ,
                }
            )
            app = bare_app(settings)
            url = stack.enter_context(served(app))
            return Running(url, app.state.proxy, stack)

        yield start


@pytest.fixture
def proxy(start_proxy: Callable[..., Running]) -> Running:
    """A proxy with everything at its default."""
    return start_proxy()


@pytest.fixture
def steer() -> Callable[..., dict[str, str]]:
    """The header that tells the simulated model what to do."""
    return lambda **keys: {"x-simulated": ",".join(f"{k}={v}" for k, v in keys.items())}
