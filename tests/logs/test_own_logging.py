"""The app's own logging prints the same lines as before; no record is lost or exported twice."""

from __future__ import annotations

import logging
import logging.config

import pytest

from tests.fixtures.otlp import Receiver
from tests.logs.conftest import Attach, console

SERVERS = (
    "uvicorn",
    "uvicorn.error",
    "uvicorn.access",
    "gunicorn.error",
    "gunicorn.access",
    "hypercorn.error",
    "hypercorn.access",
    "granian.access",
    "daphne",
)


@pytest.mark.parametrize("name", SERVERS)
def test_records_of_non_propagating_loggers_are_exported_once(
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


def test_unconfigured_app_prints_same_lines(
    attach: Attach,
    otlp: Receiver,
    log: logging.Logger,
    root_logger: logging.Logger,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root_logger.handlers.clear()  # pytest's
    pipeline = attach()
    log.info("exported only")
    log.warning("both")
    log.debug("neither")
    assert pipeline.flush(5)
    assert otlp.bodies() == ["exported only", "both"]
    assert capsys.readouterr().err == "both\n"


@pytest.mark.parametrize("when", ["before", "after"])
def test_basic_config_prints_same_lines(
    attach: Attach, otlp: Receiver, log: logging.Logger, root_logger: logging.Logger, when: str
) -> None:
    root_logger.handlers.clear()  # pytest's
    handler, out = console()
    if when == "before":
        logging.basicConfig(handlers=[handler])
    pipeline = attach()
    if when == "after":
        logging.basicConfig(handlers=[handler])
    log.info("exported only")
    log.warning("both")
    own = logging.getLogger(f"{log.name}.own")
    own.setLevel(logging.INFO)  # set by the app, so the record is printed
    own.info("the app's own")
    root_logger.setLevel(logging.INFO)  # now all loggers print
    log.info("printed from now on")
    assert pipeline.flush(5)
    assert {*otlp.bodies()} == {"exported only", "both", "the app's own", "printed from now on"}
    assert out.getvalue().splitlines() == ["both", "the app's own", "printed from now on"]


def test_dict_config_loses_no_records(attach: Attach, otlp: Receiver, log: logging.Logger) -> None:
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


def test_level_set_by_app_is_kept(attach: Attach, otlp: Receiver, log: logging.Logger) -> None:
    logging.getLogger().setLevel(logging.ERROR)
    pipeline = attach()
    log.warning("not wanted")
    log.error("wanted")
    assert pipeline.flush(5)
    assert otlp.bodies() == ["wanted"]


def test_shutdown_restores_logging(attach: Attach, otlp: Receiver, log: logging.Logger) -> None:
    pipeline = attach()
    assert log.isEnabledFor(logging.INFO)
    log.info("the last")
    pipeline.shutdown()
    assert not log.isEnabledFor(logging.INFO)
    assert logging.getLogger().level == logging.WARNING
    log.error("too late")
    assert otlp.bodies() == ["the last"]
