"""A log pipeline for one test, and an unconfigured logger."""

from __future__ import annotations

import io
import logging
import os
import uuid
from collections.abc import Callable, Iterator

import pytest
from opentelemetry.sdk.resources import Resource

import telemetry.testing
from telemetry.logs import pipeline as logs_pipeline
from telemetry.settings.library import Settings
from tests.fixtures.otlp import Receiver

RESOURCE = Resource({"service.name": "shop", "service.instance.id": "1"})
Attach = Callable[..., logs_pipeline.LogPipeline]


@pytest.fixture(autouse=True)
def recorded() -> Iterator[telemetry.testing.Recorded]:
    with telemetry.testing.isolated() as recorded:
        yield recorded


@pytest.fixture(autouse=True)
def root_logger() -> Iterator[logging.Logger]:
    """The root logger, set to the interpreter's default level and restored after the test."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.setLevel(logging.WARNING)
    yield root
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def attach(otlp: Receiver, monkeypatch: pytest.MonkeyPatch) -> Iterator[Attach]:
    """Attach pipelines with the environment given; shut them down after the test."""
    made: list[logs_pipeline.LogPipeline] = []

    def attaching(**environ: str) -> logs_pipeline.LogPipeline:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", otlp.url)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "3")
        for key, value in environ.items():
            monkeypatch.setenv(key, value)
        made.append(logs_pipeline.attach(Settings.from_env(os.environ), RESOURCE))
        return made[-1]

    yield attaching
    otlp.status = 200
    otlp.answering.set()
    for pipeline in made:
        pipeline.shutdown()


@pytest.fixture
def log() -> logging.Logger:
    """An unconfigured logger."""
    return logging.getLogger(f"shop.{uuid.uuid4().hex}")


def console() -> tuple[logging.Handler, io.StringIO]:
    """Create a handler that prints messages, and the stream that it prints to."""
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(logging.Formatter("%(message)s"))
    return handler, out
