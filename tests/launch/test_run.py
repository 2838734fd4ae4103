"""`telemetry run` itself: what it says of bad input, what it passes on, what it leaves behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.fixtures.otlp import Receiver
from tests.fixtures.stack import until
from tests.launch.serving import APP, BARE, TELEMETRY, environment, free_port, served

PYTHON = [*TELEMETRY, "run", "--", sys.executable]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with apps in it; run folders come to stand beside them."""
    (tmp_path / "shop.py").write_text(APP)
    (tmp_path / "broken.py").write_text("import no_such_module\napp = 1\n")
    (tmp_path / "garbled.py").write_text("def app(:\n")
    return tmp_path


def run(folder: Path, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
    """A run that is expected to end by itself."""
    done = subprocess.run(
        [*TELEMETRY, "run", *args],
        cwd=folder,
        env=environment(
            **{
                "TMPDIR": str(folder),
                "OTEL_METRICS_EXPORTER": "none",
                "OTEL_LOGS_EXPORTER": "none",
                **env,
            }
        ),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert not list(folder.glob("telemetry-run-*")), "nothing is left behind"
    return done


def said(done: subprocess.CompletedProcess[str]) -> list[str]:
    """Our own lines: what is wrong, what to do."""
    lines = done.stderr.splitlines()
    return [line for line in lines if line.startswith(("error: ", "  -> "))]


# --- bad input ---------------------------------------------------------------------------------


def test_a_module_that_is_not_there_is_named(folder: Path) -> None:
    done = run(folder, "shopp:app")
    assert done.returncode == 66
    assert done.stderr.splitlines() == [
        f"error: shopp:app: there is no module 'shopp' in {folder} "
        "nor among the installed packages",
        "  -> run it from the folder that shopp.py is in, or name that with --app-dir",
    ]


@pytest.mark.parametrize("options", [(), ("--workers", "2")])
def test_an_attribute_that_is_not_there_is_named(folder: Path, options: tuple[str, ...]) -> None:
    done = run(folder, "shop:application", "--port", str(free_port()), *options)
    assert done.returncode == 66
    assert "Traceback" not in done.stderr
    assert said(done) == [
        "error: shop:application can't be served: "
        'Attribute "application" not found in module "shop".',
        "  -> name an attribute that shop has, such as shop:app",
    ]


@pytest.mark.parametrize("options", [(), ("--workers", "2")])
def test_an_import_error_is_the_app_s_own(folder: Path, options: tuple[str, ...]) -> None:
    done = run(folder, "broken:app", "--port", str(free_port()), *options)
    assert done.returncode == 70
    assert f'File "{folder}/broken.py", line 1, in <module>' in done.stderr
    assert "site-packages" not in done.stderr, "no frame of the server's or ours"
    assert str(Path(__file__).parents[2] / "telemetry") not in done.stderr
    assert said(done) == [
        "error: broken:app can't be loaded: ModuleNotFoundError: No module named 'no_such_module'",
        "  -> the traceback above says where",
    ]


def test_a_syntax_error_is_shown_where_it_is(folder: Path) -> None:
    done = run(folder, "garbled:app", "--port", str(free_port()))
    assert done.returncode == 70
    assert f'File "{folder}/garbled.py", line 1' in done.stderr
    assert "Traceback" not in done.stderr


def test_a_factory_that_raises_is_the_app_s_own_too(folder: Path) -> None:
    (folder / "made.py").write_text("def create():\n    raise LookupError('no database')\n")
    options = ("--factory", "--workers", "2", "--port", str(free_port()))
    done = run(folder, "made:create", *options)
    assert done.returncode == 70
    assert f'File "{folder}/made.py", line 2, in create' in done.stderr
    assert said(done)[0] == "error: made:create can't be loaded: LookupError: no database"


def test_what_is_not_the_app_s_doing_keeps_its_traceback(folder: Path) -> None:
    options = ("--ssl-certfile", "none.pem", "--port", str(free_port()))
    done = run(folder, "shop:app", *options)
    assert done.returncode == 70
    assert "create_ssl_context" in done.stderr
    assert said(done)[0].startswith("error: shop:app can't be loaded: FileNotFoundError: ")


def test_an_import_error_under_gunicorn_ends_it_with_gunicorn_s_code(folder: Path) -> None:
    bind = f"127.0.0.1:{free_port()}"
    done = run(
        folder, "--", "gunicorn", "-b", bind, "-k", "uvicorn_worker.UvicornWorker", "broken:app"
    )
    assert done.returncode == 3
    assert "No module named 'no_such_module'" in done.stderr


@pytest.mark.parametrize(
    "command",
    [
        "shop:app --port {port}",
        "-- uvicorn shop:app --port {port} --workers 2",
        "-- gunicorn -b 127.0.0.1:{port} shop:app",
        "-- hypercorn -b 127.0.0.1:{port} shop:app",
    ],
)
def test_a_taken_port_is_named_with_who_has_it(folder: Path, command: str) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        done = run(folder, *command.format(port=port).split())
    assert done.returncode == 75
    error, remedy = done.stderr.splitlines()
    assert error.startswith(f"error: port {port} on 127.0.0.1, where ")
    assert (
        error.endswith(f"is to listen, is taken by process {os.getpid()} (python)")
        or str(os.getpid()) in error
    )
    assert remedy == "  -> stop that process, or give the server another port"


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("OTEL_METRIC_EXPORT_INTERVAL", "soon", "a whole number from 10 to 3600000"),
        (
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            "localhost:4318",
            "an address such as http://127.0.0.1:4318",
        ),
        ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "nowhere", "an address such as http://127.0.0.1:4318"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json", "http/protobuf or grpc"),
        ("OTEL_EXPORTER_OTLP_LOGS_PROTOCOL", "carrier", "http/protobuf or grpc"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "long", "a number of seconds, such as 10"),
        ("OTEL_EXPORTER_OTLP_METRICS_TIMEOUT", "-1", "a number of seconds, such as 10"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "zip", "gzip, deflate or none"),
        ("OTEL_RESOURCE_ATTRIBUTES", "team", "a list like key=value,key=value"),
        ("OTEL_TRACES_EXPORTER", "jaeger", "otlp, console, none or (metrics only) prometheus"),
        ("OTEL_SDK_DISABLED", "maybe", "true or false"),
        ("OTEL_BLRP_MAX_QUEUE_SIZE", "0", "a whole number from 1 to 1000000"),
        ("TELEMETRY_LOG_LEVEL", "LOUD", "DEBUG, INFO, WARNING, ERROR or CRITICAL"),
        ("TELEMETRY_METRICS_PATH", "metrics", "a path such as /metrics, or off"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(
    folder: Path, key: str, value: str, expected: str
) -> None:
    done = run(folder, "--", sys.executable, "-c", "print('started')", **{key: value})
    assert done.returncode == 78
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        f"error: {key}={value!r} is not {expected}",
        f"  -> set {key} to {expected}, or unset it for the default",
    ]


@pytest.mark.parametrize(
    ("args", "error", "code"),
    [
        ((), "nothing to run", 64),
        (("--",), "'--' is neither module:app nor --", 64),
        (("uvicorn", "shop:app"), "'uvicorn' is neither module:app nor --", 64),
        (("--port", "1"), "'--port' is neither module:app nor --", 64),
        (("--", "no-such-command"), "there is no command 'no-such-command' on PATH", 127),
        (("--", "./shop.py"), "'./shop.py' is not executable", 126),
    ],
)
def test_a_command_that_is_none(folder: Path, args: tuple[str, ...], error: str, code: int) -> None:
    done = run(folder, *args)
    assert done.returncode == code
    assert done.stderr.splitlines()[0] == f"error: {error}"
    assert done.stderr.splitlines()[1].startswith("  -> ")


def test_a_server_of_an_environment_that_is_not_activated_is_found(folder: Path) -> None:
    done = run(folder, "--", "uvicorn", "--version", PATH="/usr/bin:/bin")
    assert done.returncode == 0, done.stderr
    assert "uvicorn" in done.stdout


# --- what it passes on -------------------------------------------------------------------------


@pytest.mark.parametrize("code", [0, 1, 3, 42])
def test_the_exit_code_is_the_command_s(folder: Path, code: int) -> None:
    assert run(folder, "--", sys.executable, "-c", f"raise SystemExit({code})").returncode == code


def test_options_after_the_command_are_the_command_s(folder: Path) -> None:
    script = "import sys; print(sys.argv[1:])"
    done = run(folder, "--", sys.executable, "-c", script, "--version", "--", "-h", "a b")
    assert done.stdout == "['--version', '--', '-h', 'a b']\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP])
def test_signals_reach_the_command(folder: Path, number: signal.Signals) -> None:
    script = (
        "import signal, sys\n"
        f"signal.signal({int(number)}, lambda n, f: sys.exit(n + 50))\n"
        "print('ready', flush=True)\n"
        "signal.pause()\n"
    )
    process = subprocess.Popen(
        [*PYTHON, "-c", script],
        env=environment(TMPDIR=str(folder)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    assert process.wait(30) == number + 50
    process.stdout.close()
    assert not list(folder.glob("telemetry-run-*"))


def test_a_command_that_a_signal_ends_gives_128_and_its_number(folder: Path) -> None:
    script = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    assert run(folder, "--", sys.executable, "-c", script).returncode == 128 + 9


def test_what_is_ignored_stays_ignored(folder: Path) -> None:
    """`nohup telemetry run …` outlives its terminal."""
    script = "import signal; print(signal.getsignal(signal.SIGHUP) == signal.SIG_IGN)"
    done = subprocess.run(
        ["nohup", *PYTHON, "-c", script],
        env=environment(TMPDIR=str(folder)),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == "True\n"


def test_the_user_s_own_sitecustomize_and_path_are_kept(folder: Path) -> None:
    own = folder / "own"
    own.mkdir()
    (own / "sitecustomize.py").write_text("print('customized')\n")
    (own / "extra.py").write_text("")
    done = run(
        folder, "--", sys.executable, "-c", "import extra, sys; print('asyncio' in sys.modules)",
        PYTHONPATH=str(own),
    )  # fmt: skip
    # Once in `telemetry` itself, which is on the user's path too.
    assert done.stdout == "customized\n" * 2 + "False\n", "what is no server imports little"


def test_another_interpreter_runs_its_app_all_the_same(folder: Path) -> None:
    """`python -S` has no site-packages, as an interpreter that telemetry isn't installed in."""
    (folder / "uvicorn").mkdir()
    (folder / "uvicorn/__init__.py").touch()
    (folder / "uvicorn/config.py").write_text("print('served')\n")
    site = Path(__file__).parents[2] / "telemetry/launch/site"
    script = (
        f"import sys; sys.path[:0] = [{str(site)!r}, '.']; import sitecustomize, uvicorn.config"
    )
    done = run(folder, "--", sys.executable, "-S", "-c", script)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "served\n"
    assert done.stderr.startswith("telemetry: not instrumented, No module named 'telemetry' (")


def test_disabled_runs_the_bare_command(folder: Path) -> None:
    script = "import os; print(os.environ.get('TELEMETRY_RUN_DIR'), os.environ.get('PYTHONPATH'))"
    done = run(folder, "--", sys.executable, "-c", script, OTEL_SDK_DISABLED="true")
    assert done.stdout == "None None\n"


# --- what it leaves behind ---------------------------------------------------------------------


def test_the_stack_is_told_where_to_look_while_it_runs(folder: Path, otlp: Receiver) -> None:
    targets = folder / "home/targets"
    targets.mkdir(parents=True)
    port = free_port()
    env = environment(
        TELEMETRY_HOME=str(folder / "home"),
        OTEL_EXPORTER_OTLP_ENDPOINT=otlp.url,
        OTEL_RESOURCE_ATTRIBUTES="service.name=corner-shop",
    )
    command = [*TELEMETRY, "run", "shop:app", "--port", str(port)]
    with served(command, folder, env, port) as server:
        (file,) = targets.iterdir()
        assert json.loads(file.read_text()) == [
            {
                "targets": [f"127.0.0.1:{port}"],
                "labels": {"job": "corner-shop", "__metrics_path__": "/metrics"},
            }
        ]
        second = run(folder, "shop:app", "--port", str(port), TELEMETRY_HOME=str(folder / "home"))
        assert second.returncode == 75
        assert file.exists(), "one that could not start takes nothing away"
        server.end()
    assert not list(targets.iterdir())


def test_the_last_worker_killed_is_exported_by_the_parent(folder: Path, otlp: Receiver) -> None:
    port = free_port()
    env = environment(OTEL_EXPORTER_OTLP_ENDPOINT=otlp.url, OTEL_METRIC_EXPORT_INTERVAL="60000")
    command = [*TELEMETRY, "run", "shop:app", "--port", str(port)]
    from tests.launch.test_servers import exported

    with served(command, folder, env, port) as server:
        pids = [server.get(f"/items/{i}") for i in range(20)]
        os.kill(int(pids[0]), signal.SIGKILL)
        assert server.process.wait(30) == 128 + 9
    assert exported(otlp) == 20


@pytest.mark.parametrize("app", [APP, BARE])
def test_an_exit_does_not_wait_for_a_collector_that_hangs(
    folder: Path, otlp: Receiver, app: str
) -> None:
    (folder / "shop.py").write_text(app)
    otlp.answering.clear()
    port = free_port()
    command = [*TELEMETRY, "run", "shop:app", "--port", str(port)]
    env = environment(OTEL_EXPORTER_OTLP_ENDPOINT=otlp.url, TMPDIR=str(folder))
    with served(command, folder, env, port) as server:
        server.get("/items/1")
        server.process.terminate()
        assert server.process.wait(30) == 128 + signal.SIGTERM  # it would hang for 60
    assert "could not be exported" in server.output()
    assert not list(folder.glob("telemetry-run-*"))


def test_a_collector_that_is_away_costs_the_console_one_line_a_signal(folder: Path) -> None:
    port = free_port()
    nobody = f"http://127.0.0.1:{free_port()}"
    env = environment(
        OTEL_EXPORTER_OTLP_ENDPOINT=nobody,
        OTEL_EXPORTER_OTLP_TIMEOUT="2",
        OTEL_METRIC_EXPORT_INTERVAL="200",
    )
    with served([*TELEMETRY, "run", "shop:app", "--port", str(port)], folder, env, port) as server:

        def dropped() -> bool:
            shown = server.get("/metrics")
            wanted = [f'reason="export_failed",signal="{s}"' for s in ("logs", "metrics")]
            return all(w in shown for w in wanted)

        until(dropped)
        server.end()
    ours = [line for line in server.output().splitlines() if not line.startswith("INFO: ")]
    assert sorted(line.partition(" (")[0] for line in ours) == [
        f"telemetry: logs can't be exported to {nobody}",
        f"telemetry: metrics can't be exported to {nobody}",
        f"telemetry: the last values of this run could not be exported to {nobody}",
    ]


def test_a_signal_before_the_command_has_started_is_not_lost(folder: Path) -> None:
    """Sent as soon as there is a process: whenever it comes, both end and nothing is left."""
    process = subprocess.Popen(
        [*PYTHON, "-c", "import time; time.sleep(60)"], env=environment(TMPDIR=str(folder))
    )
    stop = threading.Event()

    def pester() -> None:
        while not stop.wait(0.02):
            if process.poll() is None:
                process.terminate()

    thread = threading.Thread(target=pester)
    thread.start()
    try:
        assert process.wait(30) in (128 + signal.SIGTERM, -signal.SIGTERM)
    finally:
        stop.set()
        thread.join()
