"""The platform as an ASGI app."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

import telemetry
from telemetry.errors import TelemetryError
from telemetry.services.guard import Guard
from telemetry.services.http import HTTPError, error_reply, reply_http_error
from telemetry.services.login import Access, Login
from telemetry.services.platform.admin import Admin
from telemetry.services.platform.api import Api
from telemetry.services.platform.containers import network
from telemetry.services.platform.containers.lifecycle import Lifecycle
from telemetry.services.platform.logs.follower import Exporter, Follower
from telemetry.services.platform.proxy_keys import ProxyKeys
from telemetry.services.platform.relay.server import Relay
from telemetry.services.platform.sampling import Monitor
from telemetry.services.platform.settings import Settings
from telemetry.services.platform.state.observed import ObservedState
from telemetry.services.platform.state.store import Store
from telemetry.system.docker_engine import Engine, EngineAbsent

NO_DOCKER = "no Docker here: containers are not watched; start Docker, or set DOCKER_HOST"
# Between attempts to recover interrupted operations, and to reach a Docker that was down.
RECOVERY_INTERVAL_S = 10.0
RELAY_TIMEOUT_S = 10.0
_log = logging.getLogger(__name__)


class Platform:
    """The parts of one platform.

    Args:
        settings: the platform's settings.

    Raises:
        TelemetryError: the desired state can't be opened.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.engine = Engine(settings.environ)
        self.store = Store(settings.home / "platform.db")
        self.observed = ObservedState()
        self.relay = Relay(settings, self.store)
        self.keys = ProxyKeys(settings.proxy_url, settings.admin_token)
        self.follower = Follower(
            settings,
            self.engine,
            self.store,
            Exporter(f"{settings.otlp_url}/v1/logs", settings.otlp_headers),
        )
        self.monitor = Monitor(
            self.engine,
            self.store,
            self.observed,
            (self.follower.on_event,),
            settings.sample_interval_s,
        )
        self.lifecycle = Lifecycle(
            settings,
            self.engine,
            self.store,
            self.observed,
            self.keys,
            self._open_relay,
            self.monitor.reconcile,
        )
        login = Login(
            settings.admin_token,
            "TELEMETRY_ADMIN_TOKEN",
            page="/admin",
            title="platform",
            sessions=settings.home / "platform-logins.json",
        )
        self.api = Api(settings, login, self.lifecycle, self.store, self.observed)
        self.admin = Admin(settings, login, self.engine, self.keys, self.api)

    async def open(self) -> None:
        """Start; Docker may still be down."""
        self._loop = asyncio.get_running_loop()
        await self.relay.open()
        self.follower.start()
        await asyncio.to_thread(self.monitor.start)
        self._recovering = asyncio.create_task(self._recover())

    async def close(self) -> None:
        """Finish operations in progress, and stop."""
        self._recovering.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._recovering
        await asyncio.to_thread(self.api.close)
        await asyncio.to_thread(self.monitor.stop)
        await asyncio.to_thread(self.follower.stop)
        await self.relay.close()
        self.engine.close()
        self.store.close()

    async def health(self, request: Request) -> Response:
        problem = await asyncio.to_thread(self.engine.problem)
        if not problem:
            return JSONResponse({"status": "ok"})
        if not self.engine.is_expected and not self.store.all():
            return JSONResponse({"status": "ok", "note": NO_DOCKER})
        return JSONResponse({"status": "error", "docker": problem}, 503)

    def routes(self) -> list[Route]:
        health = Route("/health", self.health, methods=["GET"])
        return [*self.api.routes(), *self.admin.routes(), health]

    async def _recover(self) -> None:
        """Recover interrupted operations at an interval, and open the relay for containers that
        existed before this process."""
        complaint = ""
        while True:
            problem = ""
            try:
                await asyncio.to_thread(self._recover_once)
            except TelemetryError as error:
                problem = error.message
            except Exception:
                _log.exception("interrupted operations could not be recovered")
            if problem and problem != complaint:
                _log.warning("%s", problem)
            complaint = problem
            self.relay.forget_removed()
            await asyncio.sleep(RECOVERY_INTERVAL_S)

    def _recover_once(self) -> None:
        self.lifecycle.recover()
        self.follower.follow_all(self.observed.all())
        if any(record.provisioned for record in self.store.all()):
            with self.engine.connect() as client:
                self._open_relay(network.ensure(client, self.settings.network))

    def _open_relay(self, gateway: str) -> str:
        listening = asyncio.run_coroutine_threadsafe(self.relay.listen(gateway), self._loop)
        return listening.result(RELAY_TIMEOUT_S)


def bare_app(settings: Settings) -> Starlette:
    """The platform without the library's instrumentation; ``app.state.platform`` is its
    `Platform`.

    Raises:
        TelemetryError: the desired state can't be opened.
    """
    platform = Platform(settings)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        await platform.open()
        yield
        await platform.close()

    async def reply_no_engine(request: Request, error: Exception) -> Response:
        assert isinstance(error, EngineAbsent)
        return error_reply(503, error)

    app = Starlette(
        routes=platform.routes(),
        exception_handlers={HTTPError: reply_http_error, EngineAbsent: reply_no_engine},
        lifespan=lifespan,
    )
    app.state.platform = platform
    return app


def guard(app: ASGIApp, settings: Settings) -> Guard:
    """Protect the platform from other hosts' names and other origins' pages."""
    return Guard(
        app,
        hosts=settings.hosts,
        url=settings.platform_url,
        has_pages=True,
        metrics_path=settings.metrics_path,
        metrics_access=Access(settings.admin_token, "TELEMETRY_ADMIN_TOKEN"),
    )


def create_app(settings: Settings) -> Guard:
    """The platform, instrumented and guarded.

    Raises:
        TelemetryError: the desired state can't be opened.
    """
    app = bare_app(settings)
    # The same id for every process of this platform, so that the next one continues the series of
    # the last. Otherwise the old series' final values would stay for five minutes beside the new
    # ones, and every container would count twice.
    instance = {"service.instance.id": app.state.platform.store.platform_id}
    instrumented: Any = telemetry.instrument(app, service_name="platform", resource=instance)
    return guard(instrumented, settings)
