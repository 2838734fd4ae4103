"""Checks of `telemetry doctor`: secrets are private, and nothing answers whom it should not."""

from __future__ import annotations

import stat
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

from telemetry.settings import credentials
from telemetry.settings.stack import TLS_ENGINES, StackSettings
from telemetry.stack import supervisor_client
from telemetry.stack.findings import Finding
from telemetry.stack.processes import SERVICES
from telemetry.stack.state_folder import StateFolder
from telemetry.system import json_http
from telemetry.system.json_http import AnswerError
from telemetry.system.tls import KEY

_FOREIGN_HOST = "host-of-another-site.invalid"


def check(folder: StateFolder, settings: StackSettings) -> Iterator[Finding]:
    """Check secrets and certificates, and the running stack's doors."""
    yield from _files(folder, settings)
    if not supervisor_client.is_running(folder):
        return
    open_doors = [*_engines(settings), *_services(folder, settings)]
    yield from open_doors
    if not open_doors:
        yield Finding("doors", "ok", "engines answer the stack only, services known hosts only")
    yield from _senders(settings)


def _files(folder: StateFolder, settings: StackSettings) -> Iterator[Finding]:
    from telemetry.stack import certificates  # takes 0.1 s to import

    for path in (folder.home / credentials.FILE, settings.tls / KEY):
        if path.exists() and _others_can_read(path):
            text = f"other users can read {path}"
            yield Finding("secrets", "problem", text, f"chmod 600 {path}")
    if settings.tls.exists() and (problem := certificates.problem(settings.tls)):
        remedy = "`telemetry down`, then `telemetry up`, makes new ones"
        yield Finding("certificates", "problem", problem, remedy)


def _others_can_read(path: Path) -> bool:
    return bool(stat.S_IMODE(path.stat().st_mode) & 0o077)


def _engines(settings: StackSettings) -> Iterator[Finding]:
    for name in TLS_ENGINES:
        port = settings.ports[name]
        try:
            answer = json_http.send(f"http://127.0.0.1:{port}/", timeout_s=2.0)
        except AnswerError:
            continue  # it doesn't run, or refuses
        if answer.status != 400:  # "Client sent an HTTP request to an HTTPS server"
            text = f"{name} answers on port {port} without a certificate"
            remedy = "is it another program? Stop it, or set another port"
            yield Finding("doors", "problem", text, remedy)


def _services(folder: StateFolder, settings: StackSettings) -> Iterator[Finding]:
    rows = supervisor_client.ask(folder)["processes"]
    for name in {row["name"] for row in rows if row["pid"]}.intersection(SERVICES):
        url = f"http://127.0.0.1:{settings.ports[name]}/health"
        try:
            answer = json_http.send(url, headers={"host": _FOREIGN_HOST}, timeout_s=2.0)
        except AnswerError:
            continue
        if answer.status != 421:
            text = f"{name} answers for the host {_FOREIGN_HOST}"
            yield Finding("doors", "problem", text, "set TELEMETRY_HOSTS to your own names only")


def _senders(settings: StackSettings) -> Iterator[Finding]:
    """Find services that the Collector takes for apps, since they don't show the stack's token."""
    query = 'count by (job) ({__name__=~"app_(gateway|platform|proxy)_.+"})'
    url = f"{settings.urls['prometheus']}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
    try:
        answer = json_http.get_json(url, tls=settings.tls)
    except AnswerError:
        return  # that Prometheus is down is reported elsewhere
    for series in answer["data"]["result"]:
        yield Finding(
            "senders",
            "note",
            f"{series['metric'].get('job', 'an app')} sends metrics named as the stack's own; they "
            "are stored with the prefix app_, and raise no alerts",
            "if it is a service of this stack, start it with the stack's TELEMETRY_OTLP_TOKEN",
        )
