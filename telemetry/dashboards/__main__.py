"""``python -m telemetry.dashboards OUTDIR``: render the dashboards' JSON into a folder."""

from __future__ import annotations

import sys
from pathlib import Path

from telemetry.dashboards import render
from telemetry.errors import TelemetryError
from telemetry.system.arguments import Parser


def main(argv: list[str]) -> int:
    """Render to the folder named in ``argv`` and return the exit code."""
    parser = Parser(prog="python -m telemetry.dashboards", description=__doc__)
    parser.add_argument(
        "folder", type=Path, help="folder to write the JSON files to, e.g. grafana/dashboards"
    )
    try:
        written = render(parser.parse_args(argv).folder)
    except TelemetryError as error:
        print(f"error: {error.message}\n  -> {error.remedy}", file=sys.stderr)
        return error.exit_code
    print("\n".join(map(str, written)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
