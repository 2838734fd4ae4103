"""Scrapes of the metrics page are neither printed nor exported; other requests are."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fixtures.otlp import Receiver
from tests.fixtures.stack import until
from tests.ports import free_port
from tests.run.serving import APP, SCRIPTS, TELEMETRY, environment, served

SERVERS = {
    "uvicorn": "uvicorn shop:app --port {port}",
    "gunicorn": "gunicorn -b 127.0.0.1:{port} --access-logfile - "
    "-k uvicorn_worker.UvicornWorker shop:app",
    "gunicorn, its own worker": "gunicorn -b 127.0.0.1:{port} --access-logfile - -k asgi shop:app",
    "hypercorn": "hypercorn -b 127.0.0.1:{port} --access-logfile - shop:app",
    "granian": "granian --interface asgi --port {port} --access-log shop:app",
    "daphne": "daphne -b 127.0.0.1 -p {port} shop:app",
}
INSTRUMENTED = f"{APP}\nimport telemetry\napp = telemetry.instrument(app)\n"


@pytest.mark.parametrize("by", ["run", "instrument"])
@pytest.mark.parametrize("server", SERVERS)
def test_scrapes_are_not_in_access_log(
    server: str, by: str, tmp_path: Path, otlp: Receiver
) -> None:
    pytest.importorskip(server.partition(",")[0])
    (tmp_path / "shop.py").write_text(APP if by == "run" else INSTRUMENTED)
    port = free_port()
    command = SERVERS[server].format(port=port).split()
    command = [*TELEMETRY, "run", "--", *command] if by == "run" else command
    command[0] = str(SCRIPTS / command[0]) if by == "instrument" else command[0]
    env = environment(
        OTEL_EXPORTER_OTLP_ENDPOINT=otlp.url,
        OTEL_METRIC_EXPORT_INTERVAL="3600000",
        OTEL_BLRP_SCHEDULE_DELAY="100",
        PYTHONPATH=str(tmp_path),
    )
    with served(command, tmp_path, env, port, ready="/metrics") as running:
        running.get("/metrics?x=1")
        running.get("/items/metrics")
        until(lambda: "/items/metrics" in running.output())
        running.get("/metrics")
        running.get("/items/last")
        until(lambda: "/items/last" in running.output())
        if server != "daphne":  # its access log is not one of `logging`
            until(lambda: any("/items/last" in body for body in otlp.bodies()))
    printed = running.output()
    assert "/metrics" not in printed.replace("/items/metrics", "")
    exported = "\n".join(otlp.bodies())
    assert "/metrics" not in exported.replace("/items/metrics", "")
