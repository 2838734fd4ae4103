"""Keep the stack's processes running: `python -m telemetry.stack.supervisor HOME`.

The supervisor is a detached process, one per state folder. It starts the processes that `up` wrote
into ``processes.json``, restarts them with back-off if they die, and writes their output to files.
On a control socket it answers one JSON line with another. If the supervisor dies, its children get
SIGTERM (PDEATHSIG).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from logging.handlers import RotatingFileHandler
from typing import Any

from telemetry.settings.stack import StackSettings
from telemetry.stack import readiness
from telemetry.stack.child import Running, spawn
from telemetry.stack.configuration import write_targets
from telemetry.stack.log_files import OUTPUT_BYTES, OUTPUT_FILES, Output
from telemetry.stack.processes import SERVICES, Process
from telemetry.stack.retention import CHECK_S, limit_loki
from telemetry.stack.state_folder import StateFolder
from telemetry.system import file_locks
from telemetry.system.atomic_files import replace_file

BACKOFF_S = (0.2, 1.0, 3.0, 10.0, 30.0)
STEADY_S = 60.0  # a process that ran this long resets its back-off; chosen by judgement
DRAIN_S = 10.0
ENGINES_FIRST_S = 5.0
LAST_LINES_S = 0.4  # two polls of the collector's file readers, to read the last lines
# These evaluate or forward alerts, so they can't report their own death: the supervisor notifies
# the other channels, at the first death and if it keeps dying.
NOTIFY_ABOUT = ("prometheus", "loki", "alertmanager", "grafana", "gateway")
NOTIFY_AT_DEATHS = (1, 5)
_log = logging.getLogger("telemetry.supervisor")


class Supervisor:
    """Run the processes of one state folder.

    Args:
        settings: the stack's settings.
        processes: the processes to run.
    """

    def __init__(self, settings: StackSettings, processes: list[Process]) -> None:
        self.settings = settings
        self.folder = StateFolder(settings.home)
        self.running = {p.name: Running(p) for p in processes}
        self._stopping = asyncio.Event()
        self._stopped = asyncio.Event()

    async def run(self) -> None:
        """Run until a signal or the control socket asks to stop."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        self.folder.socket.unlink(missing_ok=True)
        self._write_targets()
        # For a relative path: the path of a socket may have at most 107 bytes.
        os.chdir(self.folder.home)
        os.umask(0o077)
        # Rename the socket once it listens: a client that sees it can connect.
        fresh = f"{self.folder.socket.name}.new"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(fresh)
        server = await asyncio.start_unix_server(self._answer, fresh)
        os.rename(fresh, self.folder.socket.name)
        for entry in self.running.values():
            if not entry.process.is_service:
                entry.task = asyncio.create_task(self._keep_running(entry))
        others = (
            asyncio.create_task(self._start_services()),
            asyncio.create_task(self._limit_loki()),
        )
        await self._stopping.wait()
        for task in others:
            task.cancel()
        await self._stop_all()
        self._stopped.set()
        server.close()
        self.folder.socket.unlink(missing_ok=True)
        with _log_failed_write("the process ids"):
            self.folder.pids.unlink(missing_ok=True)

    async def _start_services(self) -> None:
        """Start the services after the engines: all at once would be slow on a small machine."""
        engines = [e.process for e in self.running.values() if not e.process.is_service]
        deadline = time.monotonic() + ENGINES_FIRST_S
        while time.monotonic() < deadline:
            if all(
                await asyncio.gather(
                    *(asyncio.to_thread(readiness.started, p, self.settings.tls) for p in engines)
                )
            ):
                break
            await asyncio.sleep(readiness.POLL_S)
        for entry in self.running.values():
            if entry.task is None and entry.wanted:
                entry.task = asyncio.create_task(self._keep_running(entry))

    def _write_targets(self) -> None:
        """Write the services that should run as Prometheus' targets."""
        ports = {
            name: entry.process.ports[0]
            for name, entry in self.running.items()
            if name in SERVICES and entry.wanted
        }
        with _log_failed_write("Prometheus' targets"):
            write_targets(self.folder, ports)

    async def _limit_loki(self) -> None:
        """Shorten Loki's retention if its disk is full: it has no size limit of its own."""
        while "loki" in self.running:
            await asyncio.sleep(CHECK_S)
            try:
                hours = await asyncio.to_thread(limit_loki, self.folder, self.settings)
            except OSError:
                _log.exception("could not measure Loki's disk use")
                continue
            if hours < self.settings.retention_days * 24:
                _log.warning(
                    "logs are kept for %d h only: more exceeds TELEMETRY_RETENTION_GB", hours
                )

    # --- processes -------------------------------------------------------------------------

    async def _keep_running(self, entry: Running) -> None:
        output = Output(self.folder, entry.process.name)
        try:
            while True:
                try:
                    await self._run_once(entry, output)
                except OSError as error:
                    entry.last_exit = str(error)
                if not entry.wanted:
                    return
                await self._pause(entry)
        finally:
            output.close()

    async def _pause(self, entry: Running) -> None:
        if time.time() - entry.started > STEADY_S:
            entry.deaths = 0
        pause = BACKOFF_S[min(entry.deaths, len(BACKOFF_S) - 1)]
        entry.deaths += 1
        entry.restarts += 1
        name = entry.process.name
        _log.warning("%s ended (%s); restarting it in %.1f s", name, entry.last_exit, pause)
        if name in NOTIFY_ABOUT and entry.deaths in NOTIFY_AT_DEATHS:
            again = "" if entry.deaths == 1 else f" for the {entry.deaths}th time in a row"
            text = f"The {name} process ended{again} ({entry.last_exit}). "
            text = f"{text}The supervisor restarts it in {pause:.0f} s."
            asyncio.get_running_loop().run_in_executor(
                None, _notify, name, text, self.settings.child_env
            )
        await asyncio.sleep(pause)

    async def _run_once(self, entry: Running, output: Output) -> None:
        process = entry.process
        entry.started = time.time()
        output.begin_run()
        async with output.open_pipe() as pipe:
            try:
                entry.child = await spawn(process, pipe, self.settings.child_env, self.folder.home)
            finally:
                os.close(pipe)
            self._write_pids()
            code = await entry.child.wait()
            # Surviving workers would keep its port.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(entry.child.pid, signal.SIGKILL)
        entry.last_exit = f"exit code {code}" if code >= 0 else signal.Signals(-code).name

    def _write_pids(self) -> None:
        """Write the process ids, for the clean-up after a killed supervisor."""
        rows = {
            name: entry.child.pid
            for name, entry in self.running.items()
            if entry.child is not None and entry.child.returncode is None
        }
        with _log_failed_write("the process ids"):
            replace_file(self.folder.pids, json.dumps(rows))

    async def _stop(self, entry: Running) -> None:
        entry.wanted = False
        child = entry.child
        if child is not None and child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                child.terminate()
            try:
                await asyncio.wait_for(child.wait(), entry.process.grace_s)
            except TimeoutError:
                _log.warning(
                    "%s did not stop within %.0f s; killing it",
                    entry.process.name,
                    entry.process.grace_s,
                )
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)  # its workers too
                await child.wait()
            if entry.task is not None:
                await asyncio.wait({entry.task})  # it still reads the last output
        if entry.task is not None:
            entry.task.cancel()

    async def _stop_all(self) -> None:
        """Stop the services, then the collector once its queues are empty, then the stores.

        In this order accepted data is delivered before its store stops.
        """
        with _log_failed_write("Prometheus' targets"):
            write_targets(self.folder, {})
        for tier in sorted({e.process.tier for e in self.running.values()}):
            entries = [e for e in self.running.values() if e.process.tier == tier]
            for entry in entries:
                if entry.process.name == "collector":
                    await asyncio.sleep(LAST_LINES_S)
                    port = entry.process.env["TELEMETRY_COLLECTOR_METRICS_PORT"]
                    url = f"http://127.0.0.1:{port}/metrics"
                    await asyncio.to_thread(readiness.collector_drained, url, DRAIN_S)
            await asyncio.gather(*(self._stop(entry) for entry in entries))

    # --- control ---------------------------------------------------------------------------

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = json.loads(await reader.readline() or b"{}")
            reply = await self._do(request)
            writer.write(json.dumps(reply).encode() + b"\n")
            await writer.drain()
        except (ValueError, ConnectionError) as error:
            _log.warning("a request on the control socket failed: %s", error)
        finally:
            writer.close()

    async def _do(self, request: Mapping[str, Any]) -> dict[str, Any]:
        what = request.get("do")
        if what == "stop":
            self._stopping.set()
            await self._stopped.wait()
        elif what in ("halt", "start", "restart"):
            entry = self.running.get(str(request.get("name")))
            if entry is None:
                return {"error": f"no process is called {request.get('name')!r}"}
            async with entry.changing:
                if what != "start":
                    await self._stop(entry)
                if what != "halt" and not entry.wanted:
                    entry.wanted, entry.deaths = True, 0
                    entry.task = asyncio.create_task(self._keep_running(entry))
                self._write_targets()
        return {"processes": [entry.to_json() for entry in self.running.values()]}


@contextlib.contextmanager
def _log_failed_write(what: str) -> Iterator[None]:
    """Log a file that can't be written, e.g. on a full disk; the processes keep running."""
    try:
        yield
    except OSError as error:
        _log.warning("could not write %s: %s", what, error)


def _notify(name: str, description: str, child_env: Mapping[str, str]) -> None:
    """Notify the other channels of the death of an evaluator or the gateway."""
    from telemetry.alerting import notify_directly
    from telemetry.alerting.channels import Channels

    text = f"{description} Until then alerts may be late."
    try:
        # The gateway gets no notice, so its token doesn't matter; it may have none.
        channels = Channels.from_env({"TELEMETRY_WEBHOOK_TOKEN": "unused", **child_env})
        for delivery in notify_directly(f"{name} died", text, channels):
            _log.info("sent a notice that %s died: %s", name, delivery)
    except Exception:
        _log.exception("could not notify directly that %s died", name)


def main() -> None:
    settings = StackSettings.from_env({**os.environ, "TELEMETRY_HOME": sys.argv[1]})
    folder = StateFolder(settings.home)
    handler = RotatingFileHandler(
        folder.output / "supervisor.log", maxBytes=OUTPUT_BYTES, backupCount=OUTPUT_FILES - 1
    )
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", handlers=[handler]
    )
    for attempt in range(5):
        try:
            lock = file_locks.hold(folder.lock)  # until the process ends
            break
        except OSError:
            # A process that checks the lock holds it for a moment.
            time.sleep(0.02 * (attempt + 1))
    else:
        sys.exit(f"another supervisor runs in the state folder {folder.home}")
    os.truncate(lock, 0)
    os.write(lock, str(os.getpid()).encode())
    rows = json.loads(folder.processes.read_text())
    processes = [Process.from_json(row) for row in rows]

    async def run() -> None:
        await Supervisor(settings, processes).run()

    try:
        asyncio.run(run())
    except Exception:
        _log.exception("the supervisor failed")
        raise


if __name__ == "__main__":
    main()
