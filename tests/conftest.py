"""Fixtures shared by all tests stand in tests/fixtures, one file a real part."""

from __future__ import annotations

from pathlib import Path

pytest_plugins = [
    f"tests.fixtures.{path.stem}"
    for path in sorted((Path(__file__).parent / "fixtures").glob("*.py"))
    if path.stem != "__init__"
]
