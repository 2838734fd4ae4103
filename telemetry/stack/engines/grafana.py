"""Grafana, where one can be had. It is never required: without it Prometheus, Loki and
Alertmanager evaluate and notify, and only the dashboards are missing."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

from telemetry.errors import TelemetryError
from telemetry.settings.stack import StackSettings
from telemetry.stack.engines import engine as engines
from telemetry.stack.engines import fetch

# After a failed download `up` doesn't try again at each start, which shall take 3 s.
RETRY_S = 24 * 3600.0


def ensure(
    settings: StackSettings, source: engines.Source, say: engines.Say
) -> tuple[Path | None, str]:
    """Grafana's program, fetched where it isn't here.

    Args:
        settings: where it may be, and whether there may be one at all.
        source: where engines may come from.
        say: told of progress.

    Returns:
        The program, or None; and why there is none.

    Raises:
        TelemetryError: one is named that isn't there.
    """
    if not settings.grafana:
        return None, "TELEMETRY_GRAFANA is off"
    engine = engines.table()["grafana"]
    target = _fetched(settings)
    found = find(settings)
    if found is not None:
        return found, ""
    if source in ("go", "path"):
        return None, "none was found"
    failed = target.parent / ".grafana-not-reached"
    try:
        if source == "auto" and time.time() - failed.stat().st_mtime < RETRY_S:
            return None, "none was found, and grafana.com could not be reached lately"
    except FileNotFoundError:
        pass
    try:
        fetch.fetch_tree(engine, target, settings, say)
    except engines.EngineError as error:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            failed.touch()
        except OSError:
            pass  # then it is tried each time
        return None, f"none was found, and {error.message}"
    return target / "bin" / "grafana", ""


def find(settings: StackSettings) -> Path | None:
    """GRAFANA_BIN, GRAFANA_HOME, what was fetched, PATH, or where its package puts it.

    Raises:
        TelemetryError: GRAFANA_BIN or GRAFANA_HOME is set, and there is none.
    """
    for key, given, names in (
        ("GRAFANA_BIN", settings.grafana_bin, ("",)),
        ("GRAFANA_HOME", settings.grafana_home, _IN_HOME),
    ):
        if given:
            paths = [Path(given) / name if name else Path(given) for name in names]
            found = next(filter(_runs, paths), None)
            if found is None:
                raise TelemetryError(
                    f"{key}={given!r} holds no Grafana",
                    remedy=f"set {key} to one that is there, or unset it",
                    exit_code=78,
                )
            return found
    candidates = [_fetched(settings) / "bin" / "grafana"]
    if on_path := shutil.which("grafana", path=settings.search_path):
        candidates.append(Path(on_path))
    candidates.append(Path("/usr/share/grafana/bin/grafana"))
    return next(filter(_runs, candidates), None)


def home_of(program: Path, settings: StackSettings) -> str:
    """The folder with Grafana's pages that belongs to the program."""
    if settings.grafana_home:
        return settings.grafana_home
    beside = program.resolve().parent.parent
    packaged = Path("/usr/share/grafana")
    return str(beside if (beside / "public").is_dir() or not packaged.is_dir() else packaged)


def _fetched(settings: StackSettings) -> Path:
    return settings.engines / f"grafana-{engines.table()['grafana'].version}"


# Before 9.4 the server was a program of its own.
_IN_HOME = ("bin/grafana", "bin/grafana-server")


def _runs(path: Path) -> bool:
    return path.is_file() and os.access(path, os.X_OK)
