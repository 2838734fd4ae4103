"""A running proxy over the simulated model, with a ledger in SQLite or PostgreSQL."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from sqlalchemy import select

from telemetry import testing
from telemetry.services.proxy.app import bare_app, guard
from telemetry.services.proxy.call import Call, Maximum
from telemetry.services.proxy.http.parts import Proxy
from telemetry.services.proxy.ledger import accounts, schema
from telemetry.services.proxy.pricing.cost import Rates
from telemetry.services.proxy.settings import Settings, Upstream
from telemetry.services.proxy.upstream.request import UpstreamRequest
from telemetry.services.proxy.wires import OPENAI, Ask
from tests.fixtures.simulated import served
from tests.ports import free_port

if TYPE_CHECKING:
    import anthropic
    import openai

ADMIN = {"authorization": "Bearer admin-secret"}
CHECKOUT = str(Path(__file__).parents[2])
HELLO: Any = [{"role": "user", "content": "Hello out there"}]
MESSAGE = {"model": "claude-sonnet-4-6", "max_tokens": 20, "messages": HELLO}


def wait_for(found: Callable[[], Any], timeout_s: float = 30.0) -> Any:
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
        import anthropic  # here and below: a second each, and most tests need neither

        client = anthropic.Anthropic(base_url=self.url, api_key=key, **options)
        return self.stack.enter_context(client)

    def openai(self, key: str, **options: Any) -> openai.OpenAI:
        """OpenAI's own client."""
        import openai

        client = openai.OpenAI(base_url=f"{self.url}/v1", api_key=key, **options)
        return self.stack.enter_context(client)

    def post(self, path: str, key: str, body: Any, **headers: str) -> httpx.Response:
        """A plain request; ``body`` is JSON, or bytes sent as they are."""
        sent = {"x-api-key": key, "content-type": "application/json", **headers}
        content = {"content": body} if isinstance(body, bytes) else {"json": body}
        return httpx.post(f"{self.url}{path}", headers=sent, timeout=30, **content)

    def is_open(self) -> bool:
        """Whether a call has begun and is not settled yet."""
        assert self.proxy.ledger.settled()
        statement = select(schema.calls).where(schema.calls.c.status == "open").limit(1)
        with self.proxy.ledger.engine.connect() as connection:
            return connection.execute(statement).first() is not None

    def calls(self, **wanted: Any) -> list[Any]:
        """Rows of the ledger, oldest first, once all of them are settled: a client has its answer
        a moment before."""
        statement = select(schema.calls)
        for column, value in wanted.items():
            statement = statement.where(schema.calls.c[column] == value)
        while True:
            wait_for(lambda: not self.is_open())
            with self.proxy.ledger.engine.connect() as connection:
                rows = list(connection.execute(statement.order_by(schema.calls.c.id)))
            if all(row.status != "open" for row in rows):  # one may have begun in between
                return rows

    def user(self, user: str = "ann") -> Any:
        """A user's row, once all calls are settled."""
        wait_for(lambda: not self.is_open())
        statement = select(schema.users).where(schema.users.c.user_id == user)
        with self.proxy.ledger.engine.connect() as connection:
            return connection.execute(statement).one()


def a_call(key: str, model: str, maximum: Maximum) -> Call:
    """A call as an endpoint hands it to the ledger.

    Args:
        key: the caller's, in clear.
    """
    return Call(
        digest=accounts.digest(key),
        trace_id="",
        began_s=0.0,
        endpoint="chat",
        ask=Ask(model, False, 10, 1, False, False, ()),
        model=model,
        upstream=Upstream("openai", "openai", "http://127.0.0.1:1/v1"),
        request=UpstreamRequest(OPENAI, "POST", "/chat/completions", []),
        input_tokens=1,
        rates=Rates((), "x"),
        maximum=maximum,
    )


def still_works(proxy: Running) -> None:
    """Others are served as ever."""
    assert proxy.post("/v1/messages", proxy.key("still"), MESSAGE).status_code == 200


class Process:
    """``telemetry proxy`` as a process of its own."""

    def __init__(self, environ: dict[str, str], *args: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        command = [sys.executable, "-m", "telemetry", "proxy", "--port", str(self.port), *args]
        self.process = subprocess.Popen(
            command,
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.output = ""
        wait_for(self.healthy, 60)

    def healthy(self) -> bool:
        if self.process.poll() is not None:
            raise AssertionError(f"the proxy ended: {self.process.communicate()[0]}")
        try:
            return httpx.get(f"{self.url}/health").status_code == 200
        except httpx.TransportError:
            return False

    def kill(self) -> None:
        """kill -9 of all its processes, without a word."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        if self.process.stdout and not self.process.stdout.closed:
            self.process.communicate()

    def stop(self) -> int:
        """Ask it to stop; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        self.output = self.process.communicate(timeout=60)[0]
        return self.process.returncode


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
                    # A slow machine must not look like an upstream that is down.
                    "TELEMETRY_PROXY_CONNECT_TIMEOUT": "30",
                    **environ,
                }
            )
            app = bare_app(settings)
            url = stack.enter_context(served(guard(app, settings)))
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


@pytest.fixture
def start(
    ledger_url: str, simulated_upstream: str, tmp_path: Path
) -> Iterator[Callable[..., Process]]:
    """Starts ``telemetry proxy`` processes over one ledger, with further arguments."""
    environ = {
        **os.environ,
        "TELEMETRY_HOME": str(tmp_path),
        "TELEMETRY_LEDGER_URL": ledger_url,
        "TELEMETRY_ANTHROPIC_URL": simulated_upstream,
        "TELEMETRY_OPENAI_URL": simulated_upstream,
        "TELEMETRY_ADMIN_TOKEN": "admin-secret",
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_LOGS_EXPORTER": "none",
        "PYTHONPATH": CHECKOUT,
    }
    begun: list[Process] = []

    def begin(*args: str) -> Process:
        begun.append(Process(environ, *args))
        return begun[-1]

    yield begin
    for process in begun:
        process.kill()
