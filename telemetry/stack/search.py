"""The command `telemetry search`: find log lines of services and containers in Loki."""

from __future__ import annotations

import json
import re
import time
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from telemetry.errors import TelemetryError
from telemetry.settings.stack import StackSettings
from telemetry.system import json_http
from telemetry.system.escapes import escape_output
from telemetry.system.json_http import AnswerError
from telemetry.system.terminal import Terminal, styled

if TYPE_CHECKING:
    from rich.text import Text

_COLOURS = {"trace": "dim", "debug": "dim", "warn": "yellow", "error": "red", "fatal": "bold red"}
_INDENT = "    "


@dataclass(frozen=True)
class Search:
    """The criteria of a search.

    Args:
        text: text that the line contains, ignoring case, or a trace id; "" for all lines.
        service: only lines of this service.
        handle: only lines of this container.
        level: only lines of this level.
        since_s: how far back to search, in seconds.
        limit: the most lines to return; the newest are returned.
    """

    text: str = ""
    service: str = ""
    handle: str = ""
    level: str = ""
    since_s: float = 3600.0
    limit: int = 100

    @property
    def logql(self) -> str:
        """Return the search as a LogQL query."""
        wanted = {"service_name": self.service, "handle": self.handle, "level": self.level}
        matchers = [f"{label}={_quoted(value)}" for label, value in wanted.items() if value]
        # Loki requires at least one matcher that doesn't match the empty string.
        selector = "{" + ", ".join(matchers or ['service_name=~".+"']) + "}"
        if re.fullmatch(r"[0-9a-f]{32}", self.text):
            return f"{selector} | trace_id={_quoted(self.text)}"
        return f"{selector} |~ {_quoted('(?i)' + re.escape(self.text))}" if self.text else selector


def search(settings: StackSettings, wanted: Search) -> int:
    """Print the lines found, oldest first.

    Returns:
        The exit code, as grep's: 0 if a line was found, else 1.

    Raises:
        TelemetryError: Loki is unreachable or rejects the query.
    """
    found = entries(settings, wanted)
    console = Terminal()
    words = re.compile(re.escape(wanted.text), re.IGNORECASE) if wanted.text else None
    for entry in found:
        console.print(_line(entry, words), soft_wrap=True)
    if not found:
        Terminal(stderr=True).print(
            f"no line of the last {wanted.since_s / 60:.0f} min matches {wanted.logql}"
        )
    return 0 if found else 1


def entries(settings: StackSettings, wanted: Search) -> list[dict[str, Any]]:
    """Query Loki for entries, oldest first: {"at" (s since the epoch), "line", "labels"}.

    Raises:
        TelemetryError: Loki is unreachable or rejects the query.
    """
    query = urllib.parse.urlencode(
        {
            "query": wanted.logql,
            "start": time.time_ns() - int(wanted.since_s * 1e9),
            "limit": wanted.limit,
            "direction": "backward",
        }
    )
    loki = settings.urls["loki"]
    try:
        url = f"{loki}/loki/api/v1/query_range?{query}"
        answer = json_http.get_json(url, 30.0, tls=settings.tls)
    except AnswerError as error:
        refused = 400 <= error.status < 500
        raise TelemetryError(
            f"Loki at {loki} {error}",
            remedy="change the search as Loki's answer says"
            if refused
            else "check `telemetry status`; `telemetry up` starts Loki",
            exit_code=69,  # EX_UNAVAILABLE
        ) from error
    found = [
        {"at": int(at) / 1e9, "line": line, "labels": stream["stream"]}
        for stream in answer["data"]["result"]
        for at, line, *_ in stream["values"]
    ]
    return sorted(found, key=lambda entry: float(entry["at"]))


def _line(entry: Mapping[str, Any], words: re.Pattern[str] | None) -> Text:
    labels = entry["labels"]
    who = "/".join(filter(None, (labels.get("service_name"), labels.get("handle"))))
    level = labels.get("level", "")
    at = datetime.fromtimestamp(entry["at"]).astimezone()
    # The further lines of an entry are indented, so that each entry begins at the margin.
    lines = escape_output(entry["line"]).rstrip().replace("\n", "\n" + _INDENT)
    body = styled((lines, _COLOURS.get(level, "")), lines=True)
    if words:
        body.highlight_regex(words, "bold reverse")
    head = styled((f"{at:%m-%d %H:%M:%S.%f}"[:-3], "dim"), f" {level:<5} ", (who, "cyan"), " ")
    shown = head.append_text(body)
    if labels.get("exception_type") and labels.get("trace_id"):
        # All lines of the request that failed: `telemetry search` takes the id.
        shown.append_text(styled((f"\n{_INDENT}trace_id={labels['trace_id']}", "dim"), lines=True))
    return shown


def _quoted(text: str) -> str:
    # LogQL strings are Go strings, and every JSON string is a valid Go string.
    return json.dumps(text, ensure_ascii=False)
