"""Every Python block of every page runs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
SHOP = """
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

async def order(request):
    ORDERS.add(1, {"country": "de"})
    return PlainTextResponse("")

app = Starlette(routes=[Route("/orders/{id}", order, methods=["POST"])])
"""


def blocks(page: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", (ROOT / page).read_text(), re.M | re.S)


def run(folder: Path, *arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_installation_is_described_only_in_the_readme() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
    ours = re.compile(r"pip install \S*(\.|container-telemetry)")
    assert [page.name for page in pages if ours.search(page.read_text())] == ["README.md"]


def test_every_page_with_python_blocks_is_tested() -> None:
    pages = [path.relative_to(ROOT) for path in ROOT.glob("*.md")]
    pages += [
        path.relative_to(ROOT)
        for top in ("docs", "collector", "bench")
        for path in (ROOT / top).rglob("*.md")
    ]
    assert {str(page): len(blocks(str(page))) for page in pages if blocks(str(page))} == {
        "docs/library.md": 3,
        "docs/proxy.md": 1,
    }


def test_library_page_blocks_run(tmp_path: Path) -> None:
    instrument, count, test = blocks("docs/library.md")
    (tmp_path / "shop.py").write_text(SHOP + instrument + count)
    (tmp_path / "test_shop.py").write_text(test)
    run(tmp_path, "-m", "pytest", "-q", "test_shop.py")


def test_proxy_page_block_makes_clients(tmp_path: Path) -> None:
    (block,) = blocks("docs/proxy.md")
    run(tmp_path, "-c", f"import anthropic, openai\n{block}")
