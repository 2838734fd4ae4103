"""The committed pages and tables of docs/ are those that docs/render.py generates."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import pytest

from docs import render
from telemetry import catalog
from telemetry.errors import EXIT_CODES

ROOT = Path(__file__).parents[1]
FILES = render.files()


@pytest.mark.parametrize("name", FILES)
def test_committed_page_is_the_rendered_one(name: str) -> None:
    assert (ROOT / name).read_text() == FILES[name], "run `nox -s render` and commit"


def test_generated_table_is_inserted_into_a_page() -> None:
    assert "[ContainerDown](runbooks.md#containerdown)" in FILES["docs/alerting.md"]


def test_every_metric_is_listed_once() -> None:
    listed = re.findall(r"^\| `(\w+)` \|", FILES["docs/metrics.md"], re.M)
    assert sorted(listed) == sorted(metric.prometheus for metric in catalog.METRICS.values())


def test_service_is_listed_with_its_own_options() -> None:
    page = FILES["docs/commands.md"]
    assert "`--workers WORKERS`" in page.split("## telemetry proxy\n")[1].split("\n## ")[0]


def test_default_in_the_help_moves_to_its_own_column() -> None:
    parser = argparse.ArgumentParser()
    limit = parser.add_argument("--limit", default=100, metavar="N", help="newest (default: 100)")
    port = parser.add_argument("--port", help="port to listen on")
    assert render._argument(limit) == ("`--limit N`", "newest", "100")
    assert render._argument(port) == ("`--port PORT`", "port to listen on", "")


def test_documented_exit_codes_are_those_in_use() -> None:
    code = "".join(path.read_text() for path in (ROOT / "telemetry").rglob("*.py"))
    used = {int(found) for found in re.findall(r"exit_code=(\d+)", code)}
    used |= {int(found) for found in re.findall(r"^\s+(?:return )?(\d+),?  # EX_", code, re.M)}
    used |= {0, 1, 130}  # returned by commands that work, by status and doctor, on Ctrl-C
    assert used == set(EXIT_CODES)


def test_every_argument_has_a_meaning() -> None:
    page = FILES["docs/commands.md"]
    assert len(re.findall(r"^\| `", page, re.M)) > 30
    assert re.findall(r"^\| `[^|]*\| \|.*", page, re.M) == []
