"""Logging is never at the process's expense: full queues, outages, threads, forks."""

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


def test_a_full_queue_drops_and_counts_and_does_not_wait(
    attach: Attach, otlp: Receiver, log: logging.Logger, recorded: telemetry.testing.Recorded
) -> None:
    otlp.answering.clear()
    pipeline = attach(OTEL_BLRP_MAX_QUEUE_SIZE="10", OTEL_BLRP_MAX_EXPORT_BATCH_SIZE="4")
    log.error("first %s", 0)
    until(lambda: otlp.requests == 1)  # and gets no answer
    for i in range(1, 31):
        log.error("more %s", i)
    assert recorded.value("telemetry_dropped_total", signal="logs", reason="queue_full") == 20
    otlp.answering.set()
    assert pipeline.flush(10)
    assert otlp.bodies() == ["first 0", *(f"more {i}" for i in range(1, 11))]


@pytest.mark.parametrize("status", [400, 500])
def test_what_a_collector_refuses_is_counted_and_the_next_arrives(
    attach: Attach, otlp: Receiver, log: logging.Logger, status: int,
    recorded: telemetry.testing.Recorded,
) -> None:  # fmt: skip
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


def test_text_that_is_none_costs_no_other_line(
    attach: Attach, otlp: Receiver, log: logging.Logger
) -> None:
    """Undecodable bytes of a file's name, half of a pair in JSON; an integer too large."""
    pipeline = attach()
    log.error("before")
    log.error("read %s", "\udcff.txt", extra={"path": "\ud800", "uid": 2**64, "size": 2**40})
    log.error("after")
    assert pipeline.flush(10)
    assert otlp.bodies() == ["before", "read ?.txt", "after"]
    given = otlp.logs[1].attributes
    assert (given["path"], given["uid"], given["size"]) == ("?", str(2**64), 2**40)


def test_a_handler_that_raises_does_not_end_the_export(
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


def test_an_outage_is_said_once_and_not_exported(
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
    assert otlp.bodies() == ["taken"], "no export makes another"
    assert otlp.requests == requests + 1
    assert out.getvalue().splitlines()[-1] == f"telemetry: logs are exported to {otlp.url} again"


def test_an_absent_collector_is_named_with_the_reason(
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


def test_a_record_that_cannot_be_formatted_is_counted(
    attach: Attach, otlp: Receiver, log: logging.Logger, recorded: telemetry.testing.Recorded,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(logging, "raiseExceptions", False)
    pipeline = attach()
    log.error("%d", "no number")
    log.error("fine")
    assert pipeline.flush(5)
    assert otlp.bodies() == ["fine"]
    assert recorded.value("telemetry_dropped_total", signal="logs", reason="malformed") == 1


def test_what_the_exporters_log_is_not_exported(
    attach: Attach, otlp: Receiver, log: logging.Logger
) -> None:
    pipeline = attach(TELEMETRY_LOG_LEVEL="DEBUG")
    logging.getLogger("opentelemetry.sdk.metrics").error("the SDK's own")
    logging.getLogger("urllib3.connectionpool").error("the app's requests")
    assert pipeline.flush(5)
    assert pipeline.flush(5)  # urllib3 has logged the first export, at DEBUG, in our thread
    assert otlp.bodies() == ["the app's requests"]


def test_many_threads_lose_nothing(attach: Attach, otlp: Receiver, log: logging.Logger) -> None:
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


def test_a_fork_s_child_sends_its_own_and_its_parent_s_not_twice(
    attach: Attach, otlp: Receiver, log: logging.Logger
) -> None:
    pipeline = attach()
    log.error("before")
    assert pipeline.flush(5)  # so that there is a connection to share
    otlp.answering.clear()
    log.error("the parent's")
    child = os.fork()
    if child == 0:
        code = 1
        try:
            pipeline.after_fork(Settings.from_env(), Resource({"service.instance.id": "2"}))
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
def test_settings_that_cannot_be_used_are_named(attach: Attach, key: str, value: str) -> None:
    with pytest.raises(ConfigError) as caught:
        attach(**{key: value})
    assert caught.value.key == key
    assert not logging.getLogger("shop").isEnabledFor(logging.INFO), "nothing half attached"
