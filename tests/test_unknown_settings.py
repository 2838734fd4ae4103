"""A variable that looks like a setting but is none gets one warning, with a suggestion."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from telemetry.unknown_settings import warn_of_unknown

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("TELEMETRY_METRICS_PTH", "did you mean TELEMETRY_METRICS_PATH?"),
        ("TELEMETRY_ANTROPIC_URL", "did you mean TELEMETRY_ANTHROPIC_URL?"),
        ("TELEMETRY_HOMES", "did you mean TELEMETRY_HOME?"),
        ("TELEMETRY_QQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQ", "it is ignored"),
    ],
)
def test_unknown_name_gets_one_line(
    name: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    warn_of_unknown([name, "TELEMETRY_HOME", "HOME", "MY_TELEMETRY_X"])
    assert capsys.readouterr().err == f"warning: {name} is not a setting; {hint}\n"


def test_names_in_the_docs_and_in_configurations_are_known(
    capsys: pytest.CaptureFixture[str],
) -> None:
    files = [*PAGES, *ROOT.glob("collector/*.yaml"), *ROOT.glob("compose/**/*.yaml")]
    names = {
        name
        for file in files
        for name in re.findall(r"\b(TELEMETRY_[A-Z0-9_]+[A-Z0-9])\b(?![_…*])", file.read_text())
    }
    assert len(names) > 60
    warn_of_unknown(names)
    assert capsys.readouterr().err == ""


def test_command_warns_once_and_works(tmp_path: Path) -> None:
    """The server and its workers don't repeat the warning."""
    (tmp_path / "app.py").write_text("import os\nos._exit(0)\n")
    done = subprocess.run(
        [sys.executable, "-m", "telemetry", "run", "--", sys.executable, "app.py"],
        env={**os.environ, "TELEMETRY_METRICS_PTH": "/m", "OTEL_METRICS_EXPORTER": "none"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stderr.count("TELEMETRY_METRICS_PTH") == 1


def test_warning_needs_no_optional_package() -> None:
    """It is printed by every command, with the base installation, too."""
    optional = ("aiohttp", "docker", "genai_prices", "httptools", "psutil", "rich", "sqlalchemy")
    code = (
        "import sys\n"
        f"sys.modules.update(dict.fromkeys({(*optional, 'starlette', 'uvicorn', 'yaml')}))\n"
        "from telemetry.unknown_settings import warn_of_unknown\n"
        "warn_of_unknown(['TELEMETRY_X'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert "TELEMETRY_X is not a setting" in done.stderr
