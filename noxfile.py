"""What CI runs, and what a developer runs by hand.

nox                     lint, typing, tests, stack, build: everything CI runs
nox -s tests -- -k x    the quick tests, with pytest's arguments
nox -s stack            the tests on real engines, Docker, PostgreSQL and a browser
nox -s render           dashboards, alert rules, masks and the docs' tables from their code
nox -s constraints      pin what CI installs to today's releases
nox -s bench -- asgi    a measurement: asgi, proxy, sampler, kill (--quick)
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import nox

nox.options.sessions = ["lint", "typing", "tests", "stack", "build"]
nox.options.reuse_existing_virtualenvs = True
nox.options.error_on_missing_interpreters = True

PYPROJECT = nox.project.load_toml("pyproject.toml")
GROUPS = PYPROJECT["dependency-groups"]
REAL_PARTS = "stack or docker or browser or postgres or grafana"
# More than there are CPUs: most of the quick tests wait for a process that they have started.
WORKERS = min(2 * (os.cpu_count() or 1), 8)
# A new release of a dependency is a commit here, not a surprise in CI.
CONSTRAINTS = Path(__file__).resolve().parent / "constraints.txt"
# pip's second variable is for the environments that it builds packages in; pip before 25.3 takes
# the first for those, too.
PINNED = {"PIP_CONSTRAINT": str(CONSTRAINTS), "PIP_BUILD_CONSTRAINT": str(CONSTRAINTS)}


def _install(session: nox.Session, *groups: str, env: dict[str, str] = PINNED) -> None:
    packages = [package for group in groups for package in GROUPS[group]]
    session.install("-q", "-e", ".[stack]", *packages, env=env)


@nox.session
def lint(session: nox.Session) -> None:
    """ruff: rules and format; import-linter: which package may import which."""
    session.install("-q", *GROUPS["lint"], env=PINNED)
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("lint-imports", "--no-logo", "--no-cache")


@nox.session
def typing(session: nox.Session) -> None:
    """mypy, strict."""
    _install(session, "dev", "lint")
    session.run("mypy")


@nox.session
def tests(session: nox.Session) -> None:
    """The tests that need nothing but Python, in parallel; `-n 0` for one process."""
    _install(session, "dev")
    parallel = ("-n", str(WORKERS), "--dist", "worksteal")
    # A container image may forbid bytecode files: then every worker rewrites all asserts again.
    env = {"PYTHONDONTWRITEBYTECODE": None}
    # In CI only: it takes 40 % more CPU.
    counted = bool(os.environ.get("CI")) and not session.posargs
    coverage = ("--cov", "--cov-report=") if counted else ()
    marked = ("-m", f"not ({REAL_PARTS})")
    session.run("pytest", *parallel, *coverage, *marked, *session.posargs, env=env)
    if counted:
        session.run("coverage", "report", "--format=total")


@nox.session
def stack(session: nox.Session) -> None:
    """The tests that drive real parts; what is missing is installed or built first."""
    _install(session, "dev")
    # Not left to the first test: a build takes longer than a test may.
    session.run("python", "-m", "tests.engines")
    session.run("pytest", "-m", REAL_PARTS, *session.posargs)


@nox.session
def render(session: nox.Session) -> None:
    """Render dashboards, rules, masks and the docs' tables; CI compares what is committed."""
    _install(session, "dev")
    session.run("python", "-m", "telemetry.dashboards", "grafana/dashboards")
    session.run("python", "-m", "telemetry.alerting")
    session.run("python", "-m", "telemetry.redaction", "collector/config.yaml")
    session.run("python", "-m", "docs.render")


@nox.session(reuse_venv=False)
def constraints(session: nox.Session) -> None:
    """Pin what CI installs to today's releases: constraints.txt, from a fresh environment."""
    packages = [*GROUPS["dev"], *GROUPS["lint"], *PYPROJECT["build-system"]["requires"], "build"]
    session.install("-q", "-e", ".[demo]", *packages)
    frozen = session.run("python", "-m", "pip", "freeze", "--exclude-editable", silent=True)
    CONSTRAINTS.write_text(
        "# What CI installs. Renew it on purpose: `nox -s constraints`, then the whole `nox`.\n"
        f"{frozen}"
    )


@nox.session
def build(session: nox.Session) -> None:
    """The wheel, installed clean into an empty folder and used there."""
    session.install("-q", "build", env=PINNED)
    work = Path(session.create_tmp()).resolve()
    out, clean, empty = work / "dist", work / "clean", work / "empty"
    session.run("python", "-m", "build", "-q", "--outdir", str(out), env=PINNED, silent=True)
    wheel = max(out.glob("*.whl"), key=lambda path: path.stat().st_mtime)
    session.run(sys.executable, "-m", "venv", "--clear", str(clean), external=True)
    python = str(clean / "bin" / "python")
    empty.mkdir(exist_ok=True)
    script = Path(__file__).resolve().parent / "tests" / "wheel.py"
    session.chdir(empty)
    env = {**PINNED, "PYTHONPATH": "", "PATH": f"{clean}/bin:{os.environ['PATH']}"}

    def run(*command: str) -> None:
        session.run(python, *command, env=env, external=True)

    # The base install must be enough to instrument an app, and light. -P: beside the script
    # stand tests whose names are the standard library's, too.
    run("-m", "pip", "install", "-q", str(wheel))
    run("-P", str(script), "base")
    run("-m", "pip", "install", "-q", f"{wheel}[stack]")
    run("-P", str(script), "stack")


@nox.session
def bench(session: nox.Session) -> None:
    """A measurement against peers: `nox -s bench -- asgi|proxy|sampler|kill [--quick]`."""
    if not session.posargs:
        session.error("say which: asgi, proxy, sampler or kill")
    _install(session, "dev", "bench", env={})  # peers in today's versions, with what they want
    name, *rest = session.posargs
    session.run("python", "-m", f"bench.{name}", *rest)
