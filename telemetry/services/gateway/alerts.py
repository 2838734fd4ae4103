"""Firing alerts, from the webhooks of Grafana and Alertmanager, in one form for the shell."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from telemetry import catalog, metrics
from telemetry.system.atomic_files import replace_file

_log = logging.getLogger(__name__)
Alert = dict[str, Any]
SEVERITIES = ("critical", "warning")
_KEYS = {"fingerprint", "severity", "startsAt", "notifiedAt"}
# A firing alert is sent again every 4 h by our own channels, and at least once a day by most
# others. An alert not sent again for 25 h has lost its sender, such as a removed evaluator.
EXPIRY = timedelta(hours=25)


class Alerts:
    """The firing alerts, stored in a file across restarts.

    Args:
        path: the file.
        prometheus_url: address of Prometheus, which answers no browser: links to it are left out.
        clock: returns the present time, in UTC.
    """

    def __init__(
        self,
        path: Path,
        prometheus_url: str,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._path, self._clock = path, clock
        self._prometheus_url = prometheus_url
        self._firing: dict[str, Alert] = {}
        self._listeners: set[Callable[[Alert], None]] = set()
        self._received = metrics.counter(catalog.GATEWAY_NOTIFICATIONS)
        for severity in SEVERITIES:
            for status in ("firing", "resolved"):
                self._received.touch({"status": status, "severity": severity})
        self._gauge = metrics.gauge(catalog.GATEWAY_ALERTS_FIRING)
        try:
            kept = json.loads(path.read_text())
            if all(alert.keys() >= _KEYS for alert in kept):
                self._firing = {alert["fingerprint"]: alert for alert in kept}
        except FileNotFoundError:
            pass
        except (OSError, ValueError, AttributeError, TypeError):
            _log.warning("%s can't be read; starting without alerts", path)
        self._count()

    def firing(self) -> list[Alert]:
        """Return the firing alerts, critical ones first, then newest first."""
        since = (self._clock() - EXPIRY).isoformat(timespec="seconds")
        self._firing = {f: a for f, a in self._firing.items() if a["notifiedAt"] >= since}
        self._count()
        newest = sorted(self._firing.values(), key=lambda a: str(a["startsAt"]), reverse=True)
        return sorted(newest, key=lambda alert: alert["severity"] != "critical")

    def listen(self, listener: Callable[[Alert], None]) -> Callable[[], None]:
        """Call ``listener`` with every change; returns a function that stops this."""
        self._listeners.add(listener)
        return lambda: self._listeners.discard(listener)

    def receive(self, body: Any) -> list[Alert]:
        """Take the body of a webhook and notify the listeners.

        Raises:
            ValueError: it has neither Grafana's nor Alertmanager's format.
        """
        if not isinstance(body, dict) or not isinstance(body.get("alerts"), list):
            raise ValueError('expected an object with a list "alerts"')
        now = self._clock().isoformat(timespec="seconds")
        found = [_alert(raw, now, self._prometheus_url) for raw in body["alerts"]]
        for alert in found:
            if alert["status"] == "resolved":
                self._firing.pop(alert["fingerprint"], None)
            else:
                self._firing[alert["fingerprint"]] = alert
            labels = {"status": alert["status"], "severity": alert["severity"]}
            self._received.add(1, labels)
            for listener in tuple(self._listeners):
                listener(alert)
        self._count()
        self._save()
        return found

    def _count(self) -> None:
        for severity in SEVERITIES:
            n = sum(alert["severity"] == severity for alert in self._firing.values())
            self._gauge.set(n, {"severity": severity})

    def _save(self) -> None:
        try:
            replace_file(self._path, json.dumps(list(self._firing.values())))
        except OSError as error:
            _log.error("alerts could not be stored: %s", error)


def _alert(raw: Any, now: str, prometheus_url: str) -> Alert:
    if not isinstance(raw, dict) or raw.get("status") not in ("firing", "resolved"):
        raise ValueError('the status of an alert must be "firing" or "resolved"')
    labels, notes = raw.get("labels"), raw.get("annotations") or {}
    if not isinstance(labels, dict) or not labels.get("alertname") or not isinstance(notes, dict):
        raise ValueError("an alert must have labels with an alertname")
    labels = {str(key): str(value) for key, value in labels.items()}
    name = labels["alertname"]
    severity = labels.get("severity", "warning")
    source = _link(raw.get("generatorURL"))
    identity = json.dumps(labels, sort_keys=True)
    return {
        "fingerprint": str(raw.get("fingerprint") or identity),
        "name": name,
        "severity": severity if severity in SEVERITIES else "warning",
        "status": raw["status"],
        "summary": str(notes.get("summary") or name),
        "description": str(notes.get("description") or ""),
        "value": str(notes.get("value") or _values(raw.get("values"))),
        "labels": labels,
        "startsAt": str(raw.get("startsAt") or ""),
        "endsAt": str(raw.get("endsAt") or "") if raw["status"] == "resolved" else "",
        "notifiedAt": now,
        "links": {
            "runbook": _link(notes.get("runbook_url")),
            "dashboard": _link(
                notes.get("dashboard_url") or raw.get("panelURL") or raw.get("dashboardURL")
            ),
            "source": "" if source.startswith(f"{prometheus_url}/") else source,
        },
    }


def _values(values: Any) -> str:
    """Format Grafana's ``values``, for foreign rules without a value annotation."""
    if not isinstance(values, dict):
        return ""
    numbers = {key: f"{value:g}" for key, value in values.items() if isinstance(value, int | float)}
    if len(numbers) == 1:
        return next(iter(numbers.values()))
    return ", ".join(f"{key}={number}" for key, number in numbers.items())


def _link(value: Any) -> str:
    # A page shows these as links: no javascript: or data: URLs.
    text = str(value or "")
    return text if text.startswith(("http://", "https://")) else ""
