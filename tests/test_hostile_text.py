"""Every command that prints text from outside shows it as it is: no markup, no escape sequences."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from telemetry import cli
from telemetry.alerting import delivery, rules_api
from telemetry.alerting.rules_api import Instance, RuleState, Silence
from telemetry.demo import show
from telemetry.errors import TelemetryError
from telemetry.services.proxy.ledger import accounts, reports
from telemetry.settings.stack import StackSettings
from telemetry.stack import doctor, readiness, search, show_logs, supervisor_client, up
from telemetry.stack import terminal as stack_terminal
from telemetry.stack.state_folder import StateFolder
from telemetry.system.escapes import escape, escape_output
from telemetry.system.terminal import Terminal

HOSTILE = (
    "[/red]",
    "[bold]",
    "[link=http://evil]x",
    r"\[",
    "nonsense[/x]",
    "\x1b]8;;http://evil\x1b\\x",
    "\x1b[2J",
    "\x9b2J",
    "\u202eoofni",
    "a\rb",
    "raw \udc9b",
)
AT = datetime(2026, 5, 17, tzinfo=UTC)
Run = Callable[..., str]


@pytest.fixture(params=["terminal", "pipe"])
def run(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    """Run a command; return what it printed. No control character may be in it, except the colours
    of a terminal."""
    monkeypatch.setenv("TELEMETRY_HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "300")
    if request.param == "terminal":
        monkeypatch.setenv("FORCE_COLOR", "1")

    def running(*args: str | Callable[[], object]) -> str:
        if isinstance(args[0], str):
            cli.main([str(arg) for arg in args])
        else:
            args[0]()
        out, err = capsys.readouterr()
        printed: str = out + err
        # rich's own codes: those that set a style, and in a terminal nothing else.
        plain = re.sub(r"\x1b\[[0-9;]*m", "", printed)
        assert plain.replace("\n", "").replace("\t", "").isprintable()
        return plain

    return running


def _typed(text: str) -> str:
    """Return the text without what the command line refuses: bytes that are not UTF-8."""
    return text.encode(errors="replace").decode()


@pytest.mark.parametrize("text", HOSTILE)
def test_alerts(run: Run, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    instances = (Instance({"handle": text}, True, AT, text),)
    states = (RuleState(text, text, text, text, instances), RuleState("Other", "x", "y", "", ()))
    monkeypatch.setattr(rules_api, "rule_states", lambda settings: states)
    assert run("alerts", "list").count(escape(text)) == 7
    silences = (Silence(text, (f"handle={text}",), AT, text),)
    monkeypatch.setattr(rules_api, "silences", lambda settings: silences)
    assert run("alerts", "silence").count(escape(text)) == 3
    monkeypatch.setattr(rules_api, "silence", lambda *args: text)
    typed = _typed(text)
    assert escape(typed) in run("alerts", "silence", "--label", f"handle={typed}")
    sent = (delivery.Delivery(text, text, False, text),)
    monkeypatch.setattr(delivery, "send", lambda *args: sent)
    monkeypatch.setattr(delivery, "resolve", lambda *args: None)
    assert run("alerts", "test").count(escape(text)) == 3


@pytest.mark.parametrize("text", HOSTILE)
def test_costs_and_keys(
    run: Run, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TELEMETRY_LEDGER_URL", f"sqlite:///{tmp_path}/ledger.db")
    counts = {"calls": 1, "tokens_in": 1, "tokens_out": 1, "unpriced": 0, "cost_usd": "1"}
    report = {"rows": [{"user_id": text, "model": text, **counts}], "total_usd": "1"}
    monkeypatch.setattr(reports, "costs", lambda *args, **kwargs: report)
    assert run("costs").count(escape(text)) == 2
    limits = dict.fromkeys(accounts.FIELDS)
    key = {"id": text, "hint": text, "user_id": text, "created_ms": 0, "revoked_ms": None}
    monkeypatch.setattr(accounts, "list_keys", lambda engine: [{**key, **limits}])
    assert run("keys", "list").count(escape(text)) >= 3
    made = accounts.NewKey("id", text, "tk-key")
    monkeypatch.setattr(accounts, "create_key", lambda *args: made)
    assert f"Key id of {escape(text)}." in run("keys", "create", "ann")
    monkeypatch.setattr(accounts, "set_limits", lambda *args: {"user_id": text, **limits})
    assert escape(text) in run("keys", "budget", "ann")
    monkeypatch.setattr(accounts, "revoke_key", lambda *args: True)
    assert escape(_typed(text)) in run("keys", "revoke", _typed(text))


@pytest.mark.parametrize("text", HOSTILE)
def test_search_and_logs(
    run: Run, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = {"service_name": text, "handle": text, "level": text}
    entry = {"at": AT.timestamp(), "line": f"line {text}\nmore", "labels": labels}
    monkeypatch.setattr(search, "entries", lambda *args: [entry])
    printed = run("search", "line")
    assert printed.count(escape(text)) == 4
    assert printed.endswith("\n    more\n"), "further lines are indented"
    monkeypatch.setattr(search, "entries", lambda *args: [])
    assert "no line of the last" in run("search", "--service", _typed(text))

    folder = StateFolder(tmp_path)
    folder.make()
    raw = text.encode(errors="surrogateescape")
    (folder.output / "loki.log").write_bytes(b"said " + raw + b"\tx\n\x9b2J\n")
    printed = run(lambda: show_logs.show_logs(StackSettings(tmp_path), "loki", False))
    expected = escape_output(raw.decode(errors="backslashreplace"))
    assert printed == f"said {expected}\tx\n\\x9b2J\n"


def _row(text: str) -> dict[str, Any]:
    facts = {"name": text, "url": text, "version": text, "since_s": 1.0, "restarts": 0}
    return {**facts, "pid": None, "ready": "", "last_exit": text, "service": True}


@pytest.mark.parametrize("text", HOSTILE)
def test_status_up_and_restart(
    run: Run, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [_row(text), {**_row(text), "pid": 1, "last_exit": ""}]
    monkeypatch.setattr(supervisor_client, "ask", lambda *args, **kwargs: {"processes": rows})
    monkeypatch.setattr(readiness, "condition", lambda url, tls: f'{{"why": "{text[:1]}"}} {text}')
    assert run("status").count(escape(text)) == 10
    monkeypatch.setattr(readiness, "condition", lambda url, tls: "ready")
    monkeypatch.setattr(readiness, "note", lambda url: text)
    assert run("status").count(escape(text)) == 10
    monkeypatch.setattr(supervisor_client, "is_running", lambda folder: True)
    assert escape(text) in run("up")
    assert escape(text) in run("restart", "xyzzy")
    settings, folder = StackSettings(tmp_path), StateFolder(tmp_path)
    assert escape(text) in run(
        lambda: up._notes(Terminal(), settings, "grafana", f"no {text}", folder)
    )
    with stack_terminal.ProgressBars(Terminal()) as bars:
        bars.reporter("loki")(text)


@pytest.mark.parametrize("text", HOSTILE)
def test_doctor(run: Run, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    finding = doctor.Finding(text, "problem", text, text)
    monkeypatch.setattr(doctor, "examine", lambda environ: [finding])
    assert run("doctor").count(escape(text)) == 3


@pytest.mark.parametrize("text", HOSTILE)
def test_demo(run: Run, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    instances = (Instance({"handle": text}, True, AT, text),)
    states = (RuleState(text, text, text, "", instances),)
    monkeypatch.setattr(rules_api, "rule_states", lambda settings: states)
    printed = run(lambda: show._alerts(Terminal(), StackSettings(tmp_path)))
    assert printed.count(escape(text)) == 4

    class Spenders:
        statuses: Mapping[str, Any] = {text: {200: 1, 429: 0}}

        def costs(self) -> list[dict[str, Any]]:
            return [{"user_id": text, "calls": 1, "cost_usd": "0"}]

    monkeypatch.setattr(show, "USERS", [(text, 1.0, "model")])
    monkeypatch.setattr(show, "_number", lambda *args: 0.0)
    costs: Any = Spenders()
    assert escape(text) in run(lambda: Terminal().print(show._costs("", costs)))


@pytest.mark.parametrize("text", HOSTILE)
def test_errors(run: Run, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object) -> None:
        raise TelemetryError(f"no {text}\nno", remedy=f"not {text}")

    monkeypatch.setattr(rules_api, "rule_states", fail)
    shown = escape(text)
    assert run("alerts", "list") == f"error: no {shown}\\nno\n  -> not {shown}\n"
