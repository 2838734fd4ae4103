"""Check whether a TCP port is free, and which process holds it if not."""

from __future__ import annotations

import errno
import socket


def bind_error(host: str, port: int) -> OSError | None:
    """Try to bind ``host`` and ``port``; return the error, None if it works."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return error
        return None


def is_taken(host: str, port: int) -> bool:
    """Check whether another process listens on ``host`` and ``port``."""
    error = bind_error(host, port)
    return error is not None and error.errno == errno.EADDRINUSE


def owner(port: int) -> str:
    """Describe the process that listens on ``port``, e.g. ``process 123 (name)``.

    "" if it is unknown: psutil is not installed, or the process belongs to another user.
    """
    try:
        import psutil
    except ImportError:
        return ""
    try:
        for connection in psutil.net_connections("tcp"):
            listening = connection.status == psutil.CONN_LISTEN
            if listening and connection.pid and tuple(connection.laddr)[1:2] == (port,):
                process = psutil.Process(connection.pid)
                return f"process {process.pid} ({process.name()})"
    except psutil.Error:
        pass
    return ""
