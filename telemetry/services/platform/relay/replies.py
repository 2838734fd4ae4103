"""What both ways through the relay say and pass on."""

from __future__ import annotations

from collections.abc import Mapping

from aiohttp import web

from telemetry.services.http import error_body
from telemetry.services.platform.relay.notices import Notices

RETRY_AFTER_S = 5


def only(headers: Mapping[str, str], *names: str) -> dict[str, str]:
    """Return the headers of these names."""
    return {name: headers[name] for name in names if name in headers}


def unavailable(what: str, error: Exception, notices: Notices) -> web.Response:
    """Reply that the Collector or the proxy does not answer, and log it."""
    notices.warn(
        what, f"containers' requests can't be forwarded: the {what} does not answer: {error}"
    )
    return web.json_response(
        error_body(f"the {what} does not answer", "try again"),
        status=503,
        headers={"retry-after": str(RETRY_AFTER_S)},
    )
