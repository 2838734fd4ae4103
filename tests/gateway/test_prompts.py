"""With TELEMETRY_PROMPTS=off, prompts and answers are in no log and in no file."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from telemetry.services.gateway.history import History
from telemetry.services.prompts import WITHHELD, keep_out_of_logs
from tests.fixtures.otlp import Receiver
from tests.fixtures.stack import until
from tests.gateway.conftest import Gateway, Process
from tests.gateway.test_websocket import receive, tell, turns
from tests.proxy.conftest import Running

PLANTED = "planted-7f3a91"
KERNEL = f"""
from telemetry.services.gateway.kernel import KernelError, Text

class Kernel:
    def __init__(self, settings, proxy):
        pass

    async def run(self, request):
        if "quote" in request.prompt:
            raise KernelError("can't answer " + request.prompt)
        if "fail" in request.prompt:
            raise ValueError("no answer to " + request.prompt)
        yield Text("{PLANTED} to you")

    async def close(self):
        pass
"""


@pytest.fixture
def plugged_in(tmp_path: Path) -> Path:
    """A folder with a kernel that quotes prompts in its answers and errors."""
    (tmp_path / "quoting.py").write_text(KERNEL)
    metadata = tmp_path / "quoting-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: quoting\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text("[telemetry.kernels]\nquoting = quoting:Kernel\n")
    return tmp_path


@pytest.mark.parametrize("prompts", ["on", "off"])
def test_prompts_are_in_logs_and_files_only_if_on(
    proxy: Running,
    start_process: Callable[..., Process],
    otlp: Receiver,
    plugged_in: Path,
    prompts: str,
) -> None:
    root = Path(__file__).parents[2]
    process = start_process(
        proxy.url,
        TELEMETRY_PROMPTS=prompts,
        TELEMETRY_KERNEL="quoting",
        TELEMETRY_LOG_LEVEL="DEBUG",
        OTEL_LOGS_EXPORTER="otlp",
        OTEL_EXPORTER_OTLP_ENDPOINT=otlp.url,
        OTEL_BLRP_SCHEDULE_DELAY="50",
        PYTHONPATH=f"{root}:{plugged_in}",
    )
    gateway: Gateway = process.gateway
    answered = gateway.ask(f"tell me {PLANTED}", "s1")
    assert PLANTED in json.dumps(answered)
    gateway.ask(f"quote {PLANTED}", "s1")
    gateway.ask(f"fail {PLANTED}", "s1")
    with gateway.shell("s1") as shell:
        assert PLANTED in json.dumps(turns(shell)), "the chat has its history"
        tell(shell, type="message", id="m1", text=f"and {PLANTED}")
        receive(shell, "sessions")
    lines = gateway.wait_lines(4)
    until(lambda: any("the kernel failed" in body for body in otlp.bodies()))
    process.process.terminate()
    printed, _ = process.process.communicate(timeout=60)

    files = [path for path in gateway.home.rglob("*") if path.is_file()]
    having = {path.parent.name for path in files if PLANTED in path.read_text(errors="replace")}
    exported = "\n".join(f"{log.body} {log.attributes}" for log in otlp.logs)
    if prompts == "on":
        assert having == {"logs", "sessions"}
        assert PLANTED in exported
        assert PLANTED in printed
        return
    assert having == set()
    assert PLANTED not in exported
    assert PLANTED not in printed
    assert [(line["prompt"], line["result"]) for line in lines] == [("", "")] * 4
    assert {line["status"] for line in lines} == {"ok", "error"}
    (failure,) = (body for body in otlp.bodies() if "the kernel failed" in body)
    assert failure.endswith(f"ValueError: {WITHHELD}")
    assert "quoting.py" in failure, "the stack is kept"


async def test_chats_in_memory_are_limited_as_stored_ones(tmp_path: Path) -> None:
    kept = History(None)
    kept.add("s1", "m1", "question", "answer")
    await kept.save("s1")
    assert kept.context("s1") == [("user", "question"), ("assistant", "answer")]
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def printed() -> Iterator[io.StringIO]:
    """What a logger of the library asyncio prints while texts are withheld."""
    make, logger, out = logging.getLogRecordFactory(), logging.getLogger("asyncio"), io.StringIO()
    level, handler = logger.level, logging.StreamHandler(out)
    levels = {name: logging.getLogger(name).level for name in ("aiohttp", "httpx", "httpcore")}
    levels |= {name: logging.getLogger(name).level for name in ("uvicorn", "websockets")}
    logger.addHandler(handler)
    keep_out_of_logs()
    yield out
    logging.setLogRecordFactory(make)
    logger.removeHandler(handler)
    logger.setLevel(level)
    for name, before in levels.items():
        logging.getLogger(name).setLevel(before)


def test_texts_of_exceptions_are_withheld_everywhere(printed: io.StringIO) -> None:
    log = logging.getLogger("asyncio")
    try:
        try:
            raise KeyError(PLANTED)
        except KeyError as cause:
            error = ValueError(PLANTED)
            error.add_note(PLANTED)
            raise error from cause
    except ValueError as caught:
        log.error("Task exception was never retrieved\nfuture: <Task %r>", caught, exc_info=True)
        log.error("it failed: %s", caught)
    log.error("it failed: %s", FileNotFoundError(2, "No such file", "/etc/x"))
    log.debug("received %s", PLANTED)
    text = printed.getvalue()
    assert PLANTED not in text
    assert f"ValueError: {WITHHELD}" in text
    assert "test_prompts.py" in text
    assert f"it failed: ValueError ({WITHHELD})" in text
    assert "/etc/x" in text
