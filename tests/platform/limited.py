"""A platform in a process that may open 1,024 files: ``python -m tests.platform.limited``.

Its relay listens on 127.0.0.1 as if that were the gateway address of Docker's network.
"""

from __future__ import annotations

import asyncio
import os
import resource

import uvicorn

from telemetry.services.platform.app import bare_app
from telemetry.services.platform.settings import Settings
from tests.fixtures.stack import until

FILES = 1024


async def main() -> None:
    """Serve until killed."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, FILES))
    settings = Settings.from_env(os.environ)
    app = bare_app(settings)
    app.state.platform.store.begin("ann", {"image": "x"})
    server = uvicorn.Server(uvicorn.Config(app, port=settings.port, log_level="warning"))
    serving = asyncio.create_task(server.serve())
    await asyncio.to_thread(until, lambda: server.started)
    await app.state.platform.relay.listen("127.0.0.1")
    await serving


if __name__ == "__main__":
    asyncio.run(main())
