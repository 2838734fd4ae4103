"""Exported records follow OpenTelemetry's conventions, complete and redacted."""

from __future__ import annotations

import logging
import time

import pytest
from opentelemetry import context, trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from telemetry.logs import pipeline as logs_pipeline
from tests.fixtures.otlp import Receiver
from tests.logs.conftest import Attach


def test_record_is_exported_with_all_its_fields(
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
        "code.function.name": "test_record_is_exported_with_all_its_fields",
        "order": "A-1",
        "n": 3,
    }
    assert record.trace_id == ""


@pytest.mark.parametrize(
    ("level", "number"),
    [(10, 5), (15, 5), (20, 9), (25, 9), (30, 13), (40, 17), (50, 21), (60, 21), (5, 1)],
)
def test_levels_map_to_severities(
    attach: Attach, otlp: Receiver, log: logging.Logger, level: int, number: int
) -> None:
    pipeline = attach(TELEMETRY_LOG_LEVEL="DEBUG")
    pipeline.settings = logs_pipeline.LogSettings(1)
    log.setLevel(1)
    log.log(level, "x")
    assert pipeline.flush(5)
    assert otlp.logs[0].severity_number == number
    assert otlp.logs[0].severity == logging.getLevelName(level)


def test_record_has_trace_of_caller_with_and_without_spans(
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


def test_exception_attributes_follow_convention(
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
    assert "test_exception_attributes_follow_convention" in given["code.stacktrace"]


def test_body_is_message_then_stack(attach: Attach, otlp: Receiver, log: logging.Logger) -> None:
    pipeline = attach()
    try:
        raise ValueError("no such item")
    except ValueError:
        log.exception("failed\n")
    log.error("here", stack_info=True)
    assert pipeline.flush(5)
    failed, here = (record.body.splitlines() for record in otlp.logs)
    assert failed[:2] == ["failed", "Traceback (most recent call last):"]
    assert failed[-1] == "ValueError: no such item"
    assert here[:2] == ["here", "Stack (most recent call last):"]


def test_secrets_are_masked_in_message_arguments_attributes_and_tracebacks(
    attach: Attach, otlp: Receiver, log: logging.Logger
) -> None:
    pipeline = attach(TELEMETRY_REDACT_PATTERNS="CUST-[0-9]+")
    try:
        raise ValueError("postgres://ann:hunter2@db refused")
    except ValueError:
        log.exception(
            "login %s of CUST-7700077",
            {"user": "ann", "password": "hunter2"},
            extra={
                "api_key": "hunter2",
                "sent": ["authorization", "token=hunter2"],
                "pin_token": 7700077,
            },
        )
    assert pipeline.flush(5)
    (record,) = otlp.logs
    assert "hunter2" not in str(record)
    assert "7700077" not in str(record)
    assert "'user': 'ann'" in record.body
    for text in (record.body, record.attributes["exception.stacktrace"]):
        assert "postgres://ann:[redacted]@db refused" in text


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
