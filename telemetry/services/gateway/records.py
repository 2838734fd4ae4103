"""Routes of the interaction log and of alerts."""

from __future__ import annotations

import logging
from datetime import UTC, date, datetime

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from telemetry.services.gateway.alerts import Alerts
from telemetry.services.gateway.interaction_log import InteractionLog
from telemetry.services.http import HTTPError, read_json

DEFAULT_LINES = 1000

_log = logging.getLogger(__name__)


class Records:
    """Routes of the interaction log and of alerts.

    Args:
        log: the interaction log.
        alerts: the firing alerts.
    """

    def __init__(self, log: InteractionLog, alerts: Alerts) -> None:
        self._interactions, self._alerts = log, alerts

    async def logs(self, request: Request) -> Response:
        """Answer with a day's log lines as NDJSON, without the first ``after`` lines."""
        query = request.query_params
        try:
            text = query.get("date", "")
            day = date.fromisoformat(text) if text else datetime.now(UTC).date()
            limit, after = int(query.get("limit", DEFAULT_LINES)), int(query.get("after", 0))
            if limit < 1 or after < 0:
                raise ValueError
        except ValueError:
            raise HTTPError(
                400, "expected date=YYYY-MM-DD (a UTC day), limit=1 or more, after=0 or more"
            ) from None
        return StreamingResponse(
            self._interactions.read(day, after, limit), media_type="application/x-ndjson"
        )

    async def alert(self, request: Request) -> Response:
        """Take a webhook of Grafana or Alertmanager."""
        body = await read_json(request)
        try:
            received = self._alerts.receive(body)
        except ValueError as error:
            raise HTTPError(400, f"not the body of an alert webhook: {error}") from None
        for alert in received:
            _log.warning("alert %s: %s", alert["status"], alert["summary"])
        return JSONResponse({"received": len(received)})

    async def list_alerts(self, request: Request) -> Response:
        return JSONResponse({"alerts": self._alerts.firing()})
