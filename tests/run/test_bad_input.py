"""Errors of `telemetry run` name the wrong input and a remedy."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest

from tests.ports import free_port
from tests.run.serving import error_lines, run


def test_missing_module_exits_66_with_remedy(folder: Path) -> None:
    done = run(folder, "shopp:app")
    assert done.returncode == 66
    assert done.stderr.splitlines() == [
        f"error: shopp:app: there is no module 'shopp' in {folder} "
        "nor among the installed packages",
        "  -> run it from the folder that has shopp.py, or name that folder by --app-dir",
    ]


@pytest.mark.parametrize("options", [(), ("--workers", "2")])
def test_missing_attribute_exits_66_with_remedy(folder: Path, options: tuple[str, ...]) -> None:
    done = run(folder, "shop:application", "--port", str(free_port()), *options)
    assert done.returncode == 66
    assert "Traceback" not in done.stderr
    assert error_lines(done) == [
        "error: shop:application can't be served: "
        'Attribute "application" not found in module "shop".',
        "  -> name an attribute that shop has, such as shop:app",
    ]


@pytest.mark.parametrize("options", [(), ("--workers", "2")])
def test_import_error_of_app_exits_70_with_app_traceback(
    folder: Path, options: tuple[str, ...]
) -> None:
    done = run(folder, "broken:app", "--port", str(free_port()), *options)
    assert done.returncode == 70
    assert f'File "{folder}/broken.py", line 1, in <module>' in done.stderr
    assert "site-packages" not in done.stderr, "no frame of the server's or ours"
    assert str(Path(__file__).parents[2] / "telemetry") not in done.stderr
    assert error_lines(done) == [
        "error: broken:app can't be loaded: ModuleNotFoundError: No module named 'no_such_module'",
        "  -> fix the error in the traceback above",
    ]


def test_syntax_error_of_app_exits_70_with_file_and_line(folder: Path) -> None:
    done = run(folder, "garbled:app", "--port", str(free_port()))
    assert done.returncode == 70
    assert f'File "{folder}/garbled.py", line 1' in done.stderr
    assert "Traceback" not in done.stderr


def test_raising_factory_exits_70_with_app_traceback(folder: Path) -> None:
    (folder / "made.py").write_text("def create():\n    raise LookupError('no database')\n")
    options = ("--factory", "--workers", "2", "--port", str(free_port()))
    done = run(folder, "made:create", *options)
    assert done.returncode == 70
    assert f'File "{folder}/made.py", line 2, in create' in done.stderr
    assert error_lines(done)[0] == "error: made:create can't be loaded: LookupError: no database"


def test_error_of_server_keeps_full_traceback(folder: Path) -> None:
    options = ("--ssl-certfile", "none.pem", "--port", str(free_port()))
    done = run(folder, "shop:app", *options)
    assert done.returncode == 70
    assert "create_ssl_context" in done.stderr
    assert error_lines(done)[0].startswith("error: shop:app can't be loaded: FileNotFoundError: ")


def test_import_error_under_gunicorn_exits_with_code_of_gunicorn(folder: Path) -> None:
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
def test_taken_port_exits_75_with_its_owner(folder: Path, command: str) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        done = run(folder, *command.format(port=port).split())
    assert done.returncode == 75
    error, remedy = done.stderr.splitlines()
    assert f" can't listen on 127.0.0.1, port {port}: it is taken by " in error
    assert str(os.getpid()) in error
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
def test_invalid_setting_exits_78_with_expected_value(
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
def test_invalid_command_exits_with_error_and_remedy(
    folder: Path, args: tuple[str, ...], error: str, code: int
) -> None:
    done = run(folder, *args)
    assert done.returncode == code
    assert done.stderr.splitlines()[0] == f"error: {error}"
    assert done.stderr.splitlines()[1].startswith("  -> ")


def test_server_in_inactive_environment_is_found(folder: Path) -> None:
    done = run(folder, "--", "uvicorn", "--version", PATH="/usr/bin:/bin")
    assert done.returncode == 0, done.stderr
    assert "uvicorn" in done.stdout
