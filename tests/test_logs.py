"""What a process logs goes out as OpenTelemetry has it, scrubbed, and never at its expense."""

from __future__ import annotations

import io
import logging
import logging.config
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator

import pytest
from opentelemetry import context, trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

import telemetry.testing
from telemetry import ConfigError, logs
from telemetry.config import Settings
from tests.fixtures.otlp import Receiver
from tests.fixtures.stack import until

RESOURCE = Resource({"service.name": "shop", "service.instance.id": "1"})
Attach = Callable[..., logs.LogPipeline]


@pytest.fixture(autouse=True)
def recorded() -> Iterator[telemetry.testing.Recorded]:
    with telemetry.testing.isolated() as recorded:
        yield recorded


@pytest.fixture(autouse=True)
def root_logger() -> Iterator[logging.Logger]:
    """The root logger at the level an interpreter gives it, whatever other tests left."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.setLevel(logging.WARNING)
    yield root
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def attach(otlp: Receiver, monkeypatch: pytest.MonkeyPatch) -> Iterator[Attach]:
    """Attaches a pipeline with the environment given, ended with the test."""
    made: list[logs.LogPipeline] = []

    def attaching(**environ: str) -> logs.LogPipeline:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", otlp.url)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "3")
        for key, value in environ.items():
            monkeypatch.setenv(key, value)
        made.append(logs.attach(Settings.from_env(), RESOURCE))
        return made[-1]

    yield attaching
    otlp.status = 200
    otlp.answering.set()
    for pipeline in made:
        pipeline.shutdown()


@pytest.fixture
def log() -> logging.Logger:
    """A logger nobody has configured."""
    return logging.getLogger(f"shop.{uuid.uuid4().hex}")


def test_a_record_arrives_with_all_that_is_known_of_it(
    attach: Attach, otlp: Receiver, log: logging.Logger
) -> None:
    pipeline = attach()
    before = time.time_ns()
    log.warning("order %s of %s", "A-1", "ann", extra={"order": "A-1", "n": 3, "no": None})
    assert pipeline.flush(5)
    (record,) = otlp.logs
    assert (record.body, record.severity, record.severity_number) == (
        "order A-1 of ann",
        "WARNING",
        13,
    )
    assert record.resource == {"service.name": "shop", "service.instance.id": "1"}
    assert record.scope == log.name
    assert before <= record.time_ns <= time.time_ns()
    line = record.attributes.pop("code.line.number")
    assert isinstance(line, int)
    assert record.attributes == {
        "logger.name": log.name,
        "code.file.path": __file__,
        "code.function.name": "test_a_record_arrives_with_all_that_is_known_of_it",
        "order": "A-1",
        "n": 3,
    }
    assert record.trace_id == ""


@pytest.mark.parametrize(
    ("level", "number"),
    [(10, 5), (15, 5), (20, 9), (25, 9), (30, 13), (40, 17), (50, 21), (60, 21), (5, 1)],
)
def test_severities(
    attach: Attach, otlp: Receiver, log: logging.Logger, level: int, number: int
) -> None:
    pipeline = attach(TELEMETRY_LOG_LEVEL="DEBUG")
    pipeline.settings = logs.LogSettings(1)
    log.setLevel(1)
    log.log(level, "x")
    assert pipeline.flush(5)
    assert otlp.logs[0].severity_number == number
    assert otlp.logs[0].severity == logging.getLevelName(level)


def test_the_caller_s_trace_goes_with_it_with_and_without_spans(
    attach: Attach, otlp: Receiver, log: logging.Logger
) -> None:
    pipeline = attach()
    parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    token = context.attach(TraceContextTextMapPropagator().extract({"traceparent": parent}))
    log.error("within")
    context.detach(token)
    own = trace.SpanContext(0xABC, 0xDEF, is_remote=False)
    with trace.use_span(trace.NonRecordingSpan(own)):
        log.error("in a span")
    assert pipeline.flush(5)
    within, span = otlp.logs
    assert (within.trace_id, within.span_id) == (parent[3:35], parent[36:52])
    assert (span.trace_id, span.span_id) == (f"{0xABC:032x}", f"{0xDEF:016x}")


def test_exceptions_are_told_by_convention(
    attach: Attach, otlp: Receiver, log: logging.Logger
) -> None:
    class ShopError(Exception):
        pass

    class Unprintable(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no")

    pipeline = attach()
    for error in (ValueError("no such item"), ShopError("closed"), Unprintable()):
        try:
            raise error
        except Exception:
            log.exception("failed")
    log.error("given", exc_info=KeyError("k"), stack_info=True)
    assert pipeline.flush(5)
    first, second, third, given = (record.attributes for record in otlp.logs)
    assert first["exception.type"] == "ValueError"
    assert first["exception.message"] == "no such item"
    assert first["exception.stacktrace"].startswith("Traceback (most recent call last):")
    assert first["exception.stacktrace"].endswith("ValueError: no such item\n")
    assert second["exception.type"].endswith(".ShopError")
    assert third["exception.type"].endswith(".Unprintable")
    assert given["exception.message"] == "'k'"
    assert "test_exceptions_are_told_by_convention" in given["code.stacktrace"]


def test_secrets_are_scrubbed_from_message_arguments_attributes_and_traces(
    attach: Attach, otlp: Receiver, log: logging.Logger
) -> None:
    pipeline = attach(TELEMETRY_REDACT_PATTERNS="CUST-[0-9]+")
    try:
        raise ValueError("postgres://ann:hunter2@db refused")
    except ValueError:
        log.exception(
            "login %s of CUST-77",
            {"user": "ann", "password": "hunter2"},
            extra={
                "api_key": "hunter2",
                "sent": ["authorization", "token=hunter2"],
                "pin_token": 77,
            },
        )
    assert pipeline.flush(5)
    (record,) = otlp.logs
    assert "hunter2" not in str(record)
    assert "77" not in str(record).replace(str(record.time_ns), "")
    assert "'user': 'ann'" in record.body
    assert "postgres://ann:[redacted]@db refused" in record.attributes["exception.stacktrace"]


SERVERS = ("uvicorn", "uvicorn.error", "uvicorn.access", "gunicorn.error", "gunicorn.access",
           "hypercorn.error", "hypercorn.access", "granian.access", "daphne")  # fmt: skip


@pytest.mark.parametrize("name", SERVERS)
def test_loggers_that_do_not_propagate_are_exported_once(
    attach: Attach, otlp: Receiver, name: str
) -> None:
    logger = logging.getLogger(name)
    before = logger.propagate, logger.level, logger.handlers[:]
    pipeline = attach()
    try:
        logger.propagate, logger.handlers = False, [logging.NullHandler()]
        logger.setLevel(logging.INFO)
        logger.info("served", extra={"color_message": "\x1b[1mserved"})
    finally:
        logger.propagate, _, logger.handlers = before
        logger.setLevel(before[1])
    assert pipeline.flush(5)
    assert otlp.bodies() == ["served"]
    assert "color_message" not in otlp.logs[0].attributes


# --- the app's own logging ---------------------------------------------------------------------


def test_an_app_that_configured_nothing_prints_what_it_printed(
    attach: Attach, otlp: Receiver, log: logging.Logger, root_logger: logging.Logger,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    root_logger.handlers.clear()  # pytest's
    pipeline = attach()
    log.info("exported only")
    log.warning("as ever")
    log.debug("nobody's")
    assert pipeline.flush(5)
    assert otlp.bodies() == ["exported only", "as ever"]
    assert capsys.readouterr().err == "as ever\n"


def _console() -> tuple[logging.Handler, io.StringIO]:
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(logging.Formatter("%(message)s"))
    return handler, out


@pytest.mark.parametrize("when", ["before", "after"])
def test_basic_config_prints_what_it_would_have(
    attach: Attach, otlp: Receiver, log: logging.Logger, root_logger: logging.Logger, when: str
) -> None:
    root_logger.handlers.clear()  # pytest's
    handler, out = _console()
    if when == "before":
        logging.basicConfig(handlers=[handler])
    pipeline = attach()
    if when == "after":
        logging.basicConfig(handlers=[handler])
    log.info("exported only")
    log.warning("both")
    own = logging.getLogger(f"{log.name}.own")
    own.setLevel(logging.INFO)  # which the app did, so it is printed
    own.info("the app's own")
    root_logger.setLevel(logging.INFO)  # and now for all
    log.info("printed from now on")
    assert pipeline.flush(5)
    assert {*otlp.bodies()} == {"exported only", "both", "the app's own", "printed from now on"}
    assert out.getvalue().splitlines() == ["both", "the app's own", "printed from now on"]


def test_dict_config_cannot_lose_records(
    attach: Attach, otlp: Receiver, log: logging.Logger
) -> None:
    pipeline = attach()
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "handlers": {"null": {"class": "logging.NullHandler"}},
            "loggers": {log.name: {"handlers": ["null"], "level": "INFO", "propagate": False}},
            "root": {"handlers": ["null"], "level": "INFO"},
        }
    )
    log.info("still")
    assert pipeline.flush(5)
    assert otlp.bodies() == ["still"]


def test_levels_an_app_has_set_are_kept(
    attach: Attach, otlp: Receiver, log: logging.Logger
) -> None:
    logging.getLogger().setLevel(logging.ERROR)
    pipeline = attach()
    log.warning("not wanted")
    log.error("wanted")
    assert pipeline.flush(5)
    assert otlp.bodies() == ["wanted"]


def test_shutdown_leaves_logging_as_it_was(
    attach: Attach, otlp: Receiver, log: logging.Logger
) -> None:
    pipeline = attach()
    assert log.isEnabledFor(logging.INFO)
    log.info("the last")
    pipeline.shutdown()
    assert not log.isEnabledFor(logging.INFO)
    assert logging.getLogger().level == logging.WARNING
    log.error("too late")
    assert otlp.bodies() == ["the last"]


# --- trouble -----------------------------------------------------------------------------------


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


def test_an_outage_is_said_once_and_not_exported(
    attach: Attach, otlp: Receiver, log: logging.Logger
) -> None:
    handler, out = _console()
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
    handler, out = _console()
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


def test_long_texts_lose_their_middle(attach: Attach, otlp: Receiver, log: logging.Logger) -> None:
    pipeline = attach()
    log.error("a" * 100_000 + "z", extra={"long": "b" * 20_000 + "y"})
    assert pipeline.flush(5)
    (record,) = otlp.logs
    assert record.body.startswith("aaa")
    assert record.body.endswith("aaz")
    assert "[34465 characters cut]" in record.body
    assert record.attributes["long"].endswith("bby")
    assert len(record.attributes["long"]) < 16_500


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
