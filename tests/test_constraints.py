"""constraints.txt pins every dependency in pyproject.toml to a version that it allows."""

from __future__ import annotations

import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent


def test_constraints_pin_everything_that_pyproject_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"].values()
    wanted = [
        *project["build-system"]["requires"],
        *project["project"]["dependencies"],
        *(package for extra in extras for package in extra),
        *project["dependency-groups"]["dev"],
        *project["dependency-groups"]["lint"],
    ]
    pins = (
        Requirement(line)
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if not line.startswith("#")
    )
    pinned = {canonicalize_name(pin.name): pin.specifier for pin in pins}
    own = project["project"]["name"]
    missing = [
        package
        for package in map(Requirement, wanted)
        if package.name != own
        and not any(
            package.specifier.contains(pin.version, prereleases=True)
            for pin in pinned.get(canonicalize_name(package.name), ())
        )
    ]
    assert not missing, "regenerate constraints.txt: nox -s constraints"
