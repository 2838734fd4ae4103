"""Every file and name that CONTRIBUTING.md, SECURITY.md and docs/architecture.md name exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = ("CONTRIBUTING.md", "SECURITY.md", "docs/architecture.md")
RECIPES = re.split(r"^### ", (ROOT / "CONTRIBUTING.md").read_text(), flags=re.M)[1:]
_CODE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_PATH = re.compile(r"[\w.-]+/[\w./-]*|\.?[\w.-]+\.(?:py|md|toml|txt|yaml|yml)")
_NAME = re.compile(r"[A-Z][A-Za-z_]+")


def named(text: str, kind: re.Pattern[str]) -> list[str]:
    return [code for code in _CODE.findall(text) if kind.fullmatch(code)]


@pytest.mark.parametrize("page", PAGES)
def test_every_named_path_exists(page: str) -> None:
    paths = named((ROOT / page).read_text(), _PATH)
    assert [path for path in paths if not _exists(path)] == []


def _exists(path: str) -> bool:
    # Files of the state folder or an engine's folder have no fixed path.
    return path in ("secrets.env", "go.mod", "go.sum") or any(
        (ROOT / below / path).exists() for below in ("", "telemetry", "docs")
    )


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.partition("\n")[0])
def test_every_name_of_a_recipe_is_in_a_file_that_it_names(recipe: str) -> None:
    files: list[Path] = []
    for path in named(recipe, _PATH):
        found = ROOT / path
        files += found.rglob("*.py") if found.is_dir() else [found] if found.is_file() else []
    text = "".join(file.read_text() for file in files)
    assert files
    missing = [name for name in named(recipe, _NAME) if not re.search(rf"\b{name}\b", text)]
    assert missing == []


def test_there_is_a_recipe_for_everything_that_can_be_added() -> None:
    added = [re.match(r"Add an? (.*)\n", recipe)[1] for recipe in RECIPES]
    assert added == [
        "metric",
        "alert",
        "panel",
        "dashboard",
        "engine",
        "upstream",
        "wire",
        "migration",
        "notification channel",
        "setting",
    ]


def test_architecture_names_every_folder_of_the_package() -> None:
    page = (ROOT / "docs/architecture.md").read_text()
    package = ROOT / "telemetry"
    folders = {
        str(file.parent.relative_to(package))
        for file in package.rglob("*.py")
        if file.parent != package
    }
    named = set(re.findall(r"^\| `([\w/]+)/` \|", page, re.M))
    assert named == folders
