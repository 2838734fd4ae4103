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

import telemetry
from telemetry.errors import TelemetryError
from telemetry.services.http import HTTPError, error_reply, reply_http_error
from telemetry.services.login import Login
from telemetry.services.platform.admin import Admin
from telemetry.services.platform.api import Api
from telemetry.services.platform.containers import network
from telemetry.services.platform.containers.lifecycle import Lifecycle
from telemetry.services.platform.logs.follower import Exporter, Follower
from telemetry.services.platform.proxy_keys import Keys
from telemetry.services.platform.relay import Relay
from telemetry.services.platform.sampling import Monitor
from telemetry.services.platform.settings import Settings
from telemetry.services.platform.state.observed import ObservedState
from telemetry.services.platform.state.store import Store
from telemetry.system.docker_engine import Engine, EngineAbsent

NO_DOCKER = "no Docker here: containers are not watched; start Docker, or set DOCKER_HOST"
# What was left half-way is looked at again; also how soon a Docker that came back is used.
SETTLE_S = 10.0
REACH_S = 10.0
_log = logging.getLogger(__name__)


class Platform:
    """The parts of one platform.

    Args:
        settings: what it was told.

    Raises:
        TelemetryError: the desired state can't be opened.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.engine = Engine(settings.environ)
        self.store = Store(settings.home / "platform.db")
        self.observed = ObservedState()
        self.relay = Relay(settings, self.store)
        self.keys = Keys(settings.proxy_url, settings.admin_token)
        self.follower = Follower(
            settings, self.engine, self.store, Exporter(f"{settings.otlp_url}/v1/logs")
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
            self._reach,
            self.monitor.reconcile,
        )
        login = Login(
            settings.admin_token,
            "TELEMETRY_ADMIN_TOKEN",
            page="/admin",
            title="platform",
            cookie="telemetry_platform",
            same_site="strict",
        )
        self.api = Api(settings, login, self.lifecycle, self.store, self.observed)
        self.admin = Admin(settings, login, self.engine, self.keys, self.api)

    async def open(self) -> None:
        """Begin; needs no Docker yet."""
        self._loop = asyncio.get_running_loop()
        await self.relay.open()
        self.follower.start()
        await asyncio.to_thread(self.monitor.start)
        self._settling = asyncio.create_task(self._settle())

    async def close(self) -> None:
        """Finish what is being done, and stop."""
        self._settling.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._settling
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

    async def _settle(self) -> None:
        """Whatever was left half-way, again and again; and the relay, for containers that were
        there before this process."""
        complaint = ""
        while True:
            problem = ""
            try:
                await asyncio.to_thread(self._settle_once)
            except TelemetryError as error:
                problem = error.message
            except Exception:
                _log.exception("what was left half-way could not be settled")
            if problem and problem != complaint:
                _log.warning("%s", problem)
            complaint = problem
            await asyncio.sleep(SETTLE_S)

    def _settle_once(self) -> None:
        self.lifecycle.settle()
        self.follower.look(self.observed.all())
        if any(record.provisioned for record in self.store.all()):
            with self.engine.asked() as client:
                self._reach(network.ensure(client, self.settings.network))

    def _reach(self, gateway: str) -> str:
        listening = asyncio.run_coroutine_threadsafe(self.relay.listen(gateway), self._loop)
        return listening.result(REACH_S)


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


def create_app(settings: Settings) -> Any:
    """The platform, instrumented.

    Raises:
        TelemetryError: the desired state can't be opened.
    """
    app = bare_app(settings)
    # One for all processes of this platform, one after the other: the next one goes on with the
    # series of the last, whose final values would else stand beside them for five minutes, and
    # count every container twice.
    instance = {"service.instance.id": app.state.platform.store.platform_id}
    return telemetry.instrument(app, service_name="platform", resource=instance)
