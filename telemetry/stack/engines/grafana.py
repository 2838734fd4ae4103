"""Find or fetch Grafana, which is optional.

Without it Prometheus and Loki evaluate the alerts, Alertmanager notifies, and only the dashboards
are missing.
"""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

from telemetry.errors import TelemetryError
from telemetry.settings.stack import StackSettings
from telemetry.stack.engines import engine as engines
from telemetry.stack.engines import fetch

# A failed download is not repeated at every `up`: a warm start takes 3 s.
RETRY_S = 24 * 3600.0


def ensure(
    settings: StackSettings, source: engines.Source, report: engines.Report
) -> tuple[Path | None, str]:
    """Return Grafana's program; fetch it if it is missing.

    Args:
        settings: where to look for it, and whether Grafana is on.
        source: the sources to use.
        report: called with the progress.

    Returns:
        The program and "", or None and the reason.

    Raises:
        TelemetryError: GRAFANA_BIN or GRAFANA_HOME is set but has no Grafana.
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
            return None, "none was found, and a download failed within the last 24 hours"
    except FileNotFoundError:
        pass
    try:
        fetch.fetch_tree(engine, target, settings, report)
    except engines.EngineError as error:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            failed.touch()
        except OSError:
            pass  # the next `up` tries again
        return None, f"none was found, and {error.message}"
    return target / "bin" / "grafana", ""


def find(settings: StackSettings) -> Path | None:
    """Find Grafana: GRAFANA_BIN, GRAFANA_HOME, the cache, PATH, then its package's folder.

    Raises:
        TelemetryError: GRAFANA_BIN or GRAFANA_HOME is set but has no Grafana.
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
                    f"{key}={given!r}: no Grafana found there",
                    remedy=f"set {key} to an installed Grafana, or unset it",
                    exit_code=78,
                )
            return found
    candidates = [_fetched(settings) / "bin" / "grafana"]
    if on_path := shutil.which("grafana", path=settings.search_path):
        candidates.append(Path(on_path))
    candidates.append(Path("/usr/share/grafana/bin/grafana"))
    return next(filter(_runs, candidates), None)


def home_of(program: Path, settings: StackSettings) -> str:
    """Return the folder with the program's web pages."""
    if settings.grafana_home:
        return settings.grafana_home
    beside = program.resolve().parent.parent
    packaged = Path("/usr/share/grafana")
    return str(beside if (beside / "public").is_dir() or not packaged.is_dir() else packaged)


def _fetched(settings: StackSettings) -> Path:
    return settings.engines / f"grafana-{engines.table()['grafana'].version}"


# Before 9.4 the server was a separate program.
_IN_HOME = ("bin/grafana", "bin/grafana-server")


def _runs(path: Path) -> bool:
    return path.is_file() and os.access(path, os.X_OK)
