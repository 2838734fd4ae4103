"""Settings, kernels that they select, and the gateway as a process."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from telemetry.errors import ConfigError
from telemetry.services.gateway.settings import Settings
from tests.fixtures.stack import until
from tests.gateway.conftest import TOKEN, Gateway, Process, is_called, text_of
from tests.proxy.conftest import Running


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"TELEMETRY_GATEWAY_QUEUE": "0"}, "TELEMETRY_GATEWAY_QUEUE='0'"),
        ({"TELEMETRY_GATEWAY_CONCURRENCY": "many"}, "a whole number from 1 to 1000"),
        ({"TELEMETRY_PROXY_URL": "localhost"}, "TELEMETRY_PROXY_URL"),
    ],
)
def test_invalid_setting_is_named(tmp_path: Path, environ: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Settings.from_env({"TELEMETRY_HOME": str(tmp_path), **environ})


def test_the_handle_comes_from_the_environment(
    proxy: Running, start_gateway: Callable[..., Gateway]
) -> None:
    gateway = start_gateway(proxy.url, OTEL_RESOURCE_ATTRIBUTES="a=b,handle=demo-7")
    nobodys = start_gateway(proxy.url)
    assert gateway.ask("Hello")[-1]["tokensIn"] > nobodys.ask("Hello")[-1]["tokensIn"], (
        "the model is told which container is `mine`"
    )
    assert [line["handle"] for line in gateway.lines()] == ["demo-7", ""]
    assert proxy.calls()[0].user_id == "demo-7", "a container's user is its handle"
    start_gateway(proxy.url, TELEMETRY_HANDLE="demo-8").ask("Hello")
    assert gateway.lines()[2]["handle"] == "demo-8"


def test_kernel_is_loaded_by_entry_point(
    start_gateway: Callable[..., Gateway], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site"
    (site / "echo-1.0.dist-info").mkdir(parents=True)
    (site / "echo-1.0.dist-info" / "METADATA").write_text("Name: echo\nVersion: 1.0\n")
    (site / "echo-1.0.dist-info" / "entry_points.txt").write_text(
        "[telemetry.kernels]\necho = echo_kernel:Echo\n"
    )
    (site / "echo_kernel.py").write_text(
        "from telemetry.services.gateway.kernel import Text\n"
        "class Echo:\n"
        "    def __init__(self, settings, proxy): pass\n"
        "    async def run(self, request):\n"
        "        yield Text(request.prompt[::-1])\n"
        "    async def close(self): pass\n"
    )
    monkeypatch.syspath_prepend(str(site))
    received = start_gateway(TELEMETRY_KERNEL="echo").ask("abc")
    assert text_of(received) == "cba"
    assert received[-1]["costUsd"] == "0"
    with pytest.raises(ConfigError, match="one of assistant, echo"):
        start_gateway(TELEMETRY_KERNEL="other")


def test_knowledge_file_can_be_replaced(
    proxy: Running, start_gateway: Callable[..., Gateway], tmp_path: Path
) -> None:
    shipped = start_gateway(proxy.url).ask("Hello")[-1]["tokensIn"]
    (tmp_path / "short.md").write_text("Be short.")
    own = start_gateway(proxy.url, TELEMETRY_KNOWLEDGE=str(tmp_path / "short.md"))
    assert own.ask("Hello")[-1]["tokensIn"] < shipped, "the model is given it"
    with pytest.raises(ConfigError, match="a readable text file"):
        start_gateway(proxy.url, TELEMETRY_KNOWLEDGE=str(tmp_path / "absent.md"))


def test_stop_finishes_running_answers_and_restart_keeps_history(
    proxy: Running, start_process: Callable[..., Process]
) -> None:
    first = start_process(proxy.url, TELEMETRY_MODEL="simulated-slow")
    gateway = first.gateway
    answers: list[Any] = []
    message = "some seconds' worth of words " * 6
    thread = threading.Thread(target=lambda: answers.append(gateway.ask(message, "s1")))
    thread.start()
    until(lambda: is_called(proxy))
    assert first.stop() == 0
    thread.join(30)
    assert answers[0][-1]["status"] == "ok"
    assert text_of(answers[0]) == f"Simulated answer to: {message}"
    second = start_process(proxy.url, first.port)
    with second.gateway.shell("s1") as shell:
        greeting = [shell.recv(10) for _ in range(3)]
    assert f"Simulated answer to: {message}" in str(greeting[2])
    assert second.gateway.lines()[0]["status"] == "ok"
    assert second.stop() == 0


def test_killed_gateway_leaves_whole_lines_and_starts_again(
    proxy: Running, start_process: Callable[..., Process]
) -> None:
    first = start_process(proxy.url)
    first.gateway.ask("Hello", "s1")
    first.stop(signal.SIGKILL)
    second = start_process(proxy.url)
    second.gateway.ask("Hello again", "s1")
    assert [line["prompt"] for line in second.gateway.lines()] == ["Hello", "Hello again"]
    assert len(httpx.get(f"{second.gateway.url}/api/logs", headers=TOKEN).text.splitlines()) == 2


def test_port_in_use_is_named(proxy: Running, start_process: Callable[..., Process]) -> None:
    first = start_process(proxy.url)
    again = Process("gateway", first.gateway.home, first.port)
    output = again.process.communicate(timeout=60)[0]
    assert again.process.returncode == 69
    assert f"can't listen on 127.0.0.1:{first.port}" in output
    assert "  -> " in output
