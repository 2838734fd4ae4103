"""``python -m telemetry.redaction FILE``: render the patterns of the Collector's configuration."""

from __future__ import annotations

import argparse
from pathlib import Path

from telemetry.redaction import collector


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m telemetry.redaction", description=__doc__)
    parser.add_argument("file", type=Path, help="the configuration, collector/config.yaml")
    file = parser.parse_args().file
    file.write_text(collector.insert(file.read_text()))


if __name__ == "__main__":
    main()
