"""The state folder: where the stack keeps its data, configuration and secrets."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from telemetry.errors import UnwritableError
from telemetry.stack.engines.engine import table

# Begins the line in a process' output that marks the start of a run.
STARTED = "=== started"


@dataclass(frozen=True)
class StateFolder:
    """The files and folders of one stack.

    Args:
        home: the state folder.
    """

    home: Path

    @property
    def data(self) -> Path:
        return self.home / "data"

    @property
    def config(self) -> Path:
        return self.home / "config"

    @property
    def output(self) -> Path:
        """The output of the processes, one rotated file for each."""
        return self.home / "output"

    @property
    def logs(self) -> Path:
        """The interaction log, which the collector reads."""
        return self.home / "logs"

    @property
    def targets(self) -> Path:
        """Prometheus' target files: the services that should run."""
        return self.home / "targets"

    @property
    def loki_runtime(self) -> Path:
        """Loki's runtime configuration, which sets its retention; Loki reloads the file."""
        return self.config / "loki-runtime.yaml"

    @property
    def processes(self) -> Path:
        """The processes that the supervisor should run, as JSON."""
        return self.home / "processes.json"

    @property
    def pids(self) -> Path:
        """Process groups that the supervisor started, by name, as JSON."""
        return self.home / "pids.json"

    @property
    def socket(self) -> Path:
        """The supervisor's control socket."""
        return self.home / "supervisor.sock"

    @property
    def lock(self) -> Path:
        """The lock that the supervisor holds while it runs; the file contains its process id."""
        return self.home / "supervisor.lock"

    def make(self) -> None:
        """Create all folders, accessible only to the owner.

        Raises:
            TelemetryError: a folder can't be created or written.
        """
        try:
            self.home.mkdir(parents=True, exist_ok=True, mode=0o700)
            for folder in (self.data, self.config, self.output, self.logs, self.targets):
                folder.mkdir(exist_ok=True, mode=0o700)
            for name in table():
                (self.data / name).mkdir(exist_ok=True, mode=0o700)
            probe = self.home / f".write-{os.getpid()}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise UnwritableError(f"state folder {self.home}", "TELEMETRY_HOME", error) from error
