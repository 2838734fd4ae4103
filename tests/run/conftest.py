"""The apps that the tests run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.run.serving import APP


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with apps; run folders are created beside them."""
    (tmp_path / "shop.py").write_text(APP)
    (tmp_path / "broken.py").write_text("import no_such_module\napp = 1\n")
    (tmp_path / "garbled.py").write_text("def app(:\n")
    return tmp_path
