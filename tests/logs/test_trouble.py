"""Logging never harms the process: full queues, outages, threads, forks."""

from __future__ import annotations

import logging
import os
import threading

import pytest
from opentelemetry.sdk.resources import Resource

import telemetry.testing
from telemetry import ConfigError
from telemetry.settings.library import Settings
from tests.fixtures.otlp import Receiver
from tests.fixtures.stack import until
from tests.logs.conftest import Attach, console


def test_full_queue_drops_and_counts_records_without_waiting(
    attach: Attach, otlp: Receiver, log: logging.Logger, recorded: telemetry.testing.Recorded
) -> None:
    otlp.answering.clear()
    pipeline = attach(OTEL_BLRP_MAX_QUEUE_SIZE="10", OTEL_BLRP_MAX_EXPORT_BATCH_SIZE="4")
    log.error("first %s", 0)
    until(lambda: otlp.requests == 1)  # it gets no response
    for i in range(1, 31):
        log.error("more %s", i)
    assert recorded.value("telemetry_dropped_total", signal="logs", reason="queue_full") == 20
    otlp.answering.set()
    assert pipeline.flush(10)
    assert otlp.bodies() == ["first 0", *(f"more {i}" for i in range(1, 11))]


@pytest.mark.parametrize("status", [400, 500])
def test_refused_records_are_counted_and_next_record_is_exported(
    attach: Attach,
    otlp: Receiver,
    log: logging.Logger,
    status: int,
    recorded: telemetry.testing.Recorded,
) -> None:
    pipeline = attach()
    otlp.status = status
    log.error("refused")
    log.error("as well")
    assert not pipeline.flush(10)
    assert recorded.value("telemetry_dropped_total", signal="logs", reason="export_failed") == 2
    otlp.status = 200
    log.error("taken")
    assert pipeline.flush(10)
    assert otlp.bodies() == ["taken"]


def test_unencodable_value_does_not_lose_other_records(
    attach: Attach, otlp: Receiver, log: logging.Logger, root_logger: logging.Logger
) -> None:
    """Undecodable bytes of a file name, a lone surrogate, an integer of more than 64 bits."""
    root_logger.handlers.clear()  # pytest's: a worker can't send what these capture
    pipeline = attach()
    log.error("before")
    log.error("read %s", "\udcff.txt", extra={"path": "\ud800", "uid": 2**64, "size": 2**40})
    log.error("after")
    assert pipeline.flush(10)
    assert otlp.bodies() == ["before", "read ?.txt", "after"]
    given = otlp.logs[1].attributes
    assert (given["path"], given["uid"], given["size"]) == ("?", str(2**64), 2**40)


def test_raising_handler_does_not_stop_export(
    attach: Attach, otlp: Receiver, log: logging.Logger, root_logger: logging.Logger
) -> None:
    class Raising(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise ConnectionError("it is down, too")

    pipeline = attach()
    otlp.status = 503
    log.error("refused")
    handler = Raising()
    root_logger.addHandler(handler)
    assert not pipeline.flush(10)
    root_logger.removeHandler(handler)
    otlp.status = 200
    log.error("taken")
    assert pipeline.flush(10)
    assert otlp.bodies() == ["taken"]


def test_outage_is_logged_once_and_not_exported(
    attach: Attach, otlp: Receiver, log: logging.Logger
) -> None:
    handler, out = console()
    logging.getLogger().addHandler(handler)
    pipeline = attach()
    otlp.status = 500
    for _ in range(2):
        log.error("refused")
        assert not pipeline.flush(10)
    said = [line for line in out.getvalue().splitlines() if line != "refused"]
    assert len(said) == 1, said
    assert said[0].startswith(f"telemetry: logs can't be exported to {otlp.url} (")
    assert "(500, reason: Internal Server Error)" in said[0]
    otlp.status = 200
    requests = otlp.requests
    log.error("taken")
    assert pipeline.flush(10)
    assert pipeline.flush(10)
    assert otlp.bodies() == ["taken"], "no export causes another"
    assert otlp.requests == requests + 1
    assert out.getvalue().splitlines()[-1] == f"telemetry: logs are exported to {otlp.url} again"


def test_absent_collector_is_logged_with_reason(
    attach: Attach, otlp: Receiver, log: logging.Logger
) -> None:
    handler, out = console()
    logging.getLogger().addHandler(handler)
    pipeline = attach(OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9")
    log.error("x")
    assert not pipeline.flush(10)
    said = out.getvalue()
    assert "to http://127.0.0.1:9 (Connection refused)" in said
    assert "HTTPConnectionPool" not in said


def test_record_that_fails_to_format_is_counted(
    attach: Attach,
    otlp: Receiver,
    log: logging.Logger,
    recorded: telemetry.testing.Recorded,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)
    pipeline = attach()
    log.error("%d", "no number")
    log.error("fine")
    assert pipeline.flush(5)
    assert otlp.bodies() == ["fine"]
    assert recorded.value("telemetry_dropped_total", signal="logs", reason="malformed") == 1


def test_records_of_exporters_are_not_exported(
    attach: Attach, otlp: Receiver, log: logging.Logger
) -> None:
    pipeline = attach(TELEMETRY_LOG_LEVEL="DEBUG")
    logging.getLogger("opentelemetry.sdk.metrics").error("the SDK's own")
    logging.getLogger("urllib3.connectionpool").error("the app's requests")
    assert pipeline.flush(5)
    assert pipeline.flush(5)  # urllib3 logged the first export at DEBUG, in our thread
    assert otlp.bodies() == ["the app's requests"]


def test_records_of_concurrent_threads_are_all_exported(
    attach: Attach, otlp: Receiver, log: logging.Logger
) -> None:
    pipeline = attach(OTEL_BLRP_MAX_QUEUE_SIZE="100000", OTEL_BLRP_SCHEDULE_DELAY="10")

    def work(thread: int) -> None:
        for i in range(500):
            log.error("%s/%s", thread, i)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert pipeline.flush(20)
    assert sorted(otlp.bodies()) == sorted(f"{t}/{i}" for t in range(4) for i in range(500))


def test_forked_child_exports_only_its_own_records(
    attach: Attach, otlp: Receiver, log: logging.Logger
) -> None:
    pipeline = attach()
    log.error("before")
    assert pipeline.flush(5)  # opens a connection that the child inherits
    otlp.answering.clear()
    log.error("the parent's")
    child = os.fork()
    if child == 0:
        code = 1
        try:
            pipeline.after_fork(
                Settings.from_env(os.environ), Resource({"service.instance.id": "2"})
            )
            log.error("the child's")
            code = 0 if pipeline.flush(20) else 2
        finally:
            os._exit(code)
    otlp.answering.set()
    assert pipeline.flush(20)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert sorted(otlp.bodies()) == ["before", "the child's", "the parent's"]
    instances = {record.body: record.resource["service.instance.id"] for record in otlp.logs}
    assert instances == {"before": "1", "the parent's": "1", "the child's": "2"}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("TELEMETRY_LOG_LEVEL", "LOUD"),
        ("TELEMETRY_LOG_LEVEL", "NOTSET"),
        ("OTEL_BLRP_MAX_QUEUE_SIZE", "many"),
        ("OTEL_BLRP_MAX_EXPORT_BATCH_SIZE", "0"),
        ("OTEL_BLRP_SCHEDULE_DELAY", "-1"),
        ("TELEMETRY_REDACT_PATTERNS", "("),
    ],
)
def test_invalid_setting_raises_config_error_with_its_key(
    attach: Attach, key: str, value: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        attach(**{key: value})
    assert caught.value.key == key
    assert not logging.getLogger("shop").isEnabledFor(logging.INFO), "nothing is attached"
