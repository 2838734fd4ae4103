"""Parsing a server's command line for the service name and the listen address."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from telemetry.run import command_line


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("uvicorn shop:app --workers 4", "shop"),
        ("uvicorn app:app", "app"),
        ("uvicorn shop.main:app", "shop.main"),
        ("uvicorn shop.web:create --factory", "web"),
        ("/usr/bin/python3.12 -m uvicorn shop:app", "shop"),
        ("gunicorn -b 127.0.0.1:8000 -k uvicorn_worker.UvicornWorker shop.api:app", "api"),
        ("gunicorn 'shop:create_app()'", "shop"),
        ("hypercorn shop:app --bind localhost:80", "shop"),
        ("datasette serve my.db -p 8001", "datasette"),
        ("python -m datasette my.db", "datasette"),
        ("python3 -u server.py", "server"),
        ("python3 /usr/bin/uvicorn shop:app", "shop"),
        ("python3 -c 'print(1)'", "python3"),
        ("./serve --log-config a:1", "serve"),
    ],
)
def test_service_is_named_for_app_or_program(command: str, name: str) -> None:
    assert command_line.service_name(shlex.split(command)) == name


@pytest.mark.parametrize(
    ("command", "environ", "address"),
    [
        ("uvicorn a:app", {}, ("127.0.0.1", 8000)),
        ("uvicorn a:app --port 81 --host 0.0.0.0", {}, ("0.0.0.0", 81)),
        ("uvicorn a:app --port=81 --host=::", {}, ("::", 81)),
        ("uvicorn a:app", {"UVICORN_PORT": "82", "UVICORN_HOST": "h"}, ("h", 82)),
        ("uvicorn a:app --port 81", {"UVICORN_PORT": "82"}, ("127.0.0.1", 81)),
        ("python -m uvicorn a:app --port 81", {}, ("127.0.0.1", 81)),
        ("uvicorn a:app --uds /tmp/s", {}, None),
        ("uvicorn a:app --fd 3", {}, None),
        ("uvicorn a:app --port 0", {}, None),
        ("uvicorn a:app --port x", {}, None),
        ("uvicorn a:app --port", {}, ("127.0.0.1", 8000)),
        ("uvicorn a:app", {"LISTEN_FDS": "1"}, None),
        ("gunicorn a:app", {}, ("127.0.0.1", 8000)),
        ("gunicorn a:app", {"PORT": "83"}, ("0.0.0.0", 83)),
        ("gunicorn -b 127.0.0.1:84 a:app", {"PORT": "83"}, ("127.0.0.1", 84)),
        ("gunicorn -b127.0.0.1:84 a:app", {}, ("127.0.0.1", 84)),
        ("gunicorn --bind=[::1]:84 a:app", {}, ("::1", 84)),
        ("gunicorn -b :84 a:app", {}, ("127.0.0.1", 84)),
        ("gunicorn -b host a:app", {}, ("host", 8000)),
        ("gunicorn -b unix:/tmp/s a:app", {}, None),
        ("gunicorn -b h:1 -b h:2 a:app", {}, None),
        ("gunicorn -c conf.py a:app", {}, None),
        ("gunicorn -c conf.py -b h:84 a:app", {}, ("h", 84)),
        ("gunicorn a:app", {"GUNICORN_CMD_ARGS": "--bind=h:1"}, None),
        ("gunicorn --reuse-port -b h:84 a:app", {}, None),
        ("hypercorn a:app -b h:85", {}, ("h", 85)),
        ("hypercorn -c conf.toml a:app", {}, None),
        ("granian --interface asgi a:app --port 86", {}, ("127.0.0.1", 86)),
        ("daphne -b 0.0.0.0 -p 87 a:app", {}, ("0.0.0.0", 87)),
        ("daphne -u /tmp/s a:app", {}, None),
        ("datasette serve my.db", {}, ("127.0.0.1", 8001)),
        ("datasette my.db -p 88 -h 0.0.0.0", {}, ("0.0.0.0", 88)),
        ("psql --port 5432", {}, None),
        ("python server.py", {}, None),
    ],
)
def test_listen_address_is_found_or_none(
    command: str, environ: dict[str, str], address: tuple[str, int] | None, tmp_path: Path
) -> None:
    assert command_line.address(shlex.split(command), environ, tmp_path) == address


def test_configuration_file_makes_address_unknown_unless_given(tmp_path: Path) -> None:
    (tmp_path / "gunicorn.conf.py").touch()
    assert command_line.address(["gunicorn", "a:app"], {}, tmp_path) is None
    assert command_line.address(["gunicorn", "-b", "h:1", "a:app"], {}, tmp_path) == ("h", 1)
