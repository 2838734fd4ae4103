"""What both ways through the relay say and pass on."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from aiohttp import web

from telemetry.services.http import error_body

RETRY_AFTER_S = 5
_log = logging.getLogger(__name__)


def only(headers: Mapping[str, str], *names: str) -> dict[str, str]:
    """Return the headers of these names."""
    return {name: headers[name] for name in names if name in headers}


def unavailable(what: str, error: Exception) -> web.Response:
    """Reply that the Collector or the proxy does not answer."""
    _log.warning("containers' requests can't be forwarded: the %s does not answer: %s", what, error)
    return web.json_response(
        error_body(f"the {what} does not answer", "try again"),
        status=503,
        headers={"retry-after": str(RETRY_AFTER_S)},
    )
