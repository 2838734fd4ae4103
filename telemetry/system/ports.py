"""Whether a TCP port can be had, and whose it is where it can't."""

from __future__ import annotations

import errno
import socket


def bind_error(host: str, port: int) -> OSError | None:
    """What keeps a server from listening on ``host`` and ``port``; None where nothing does."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return error
        return None


def is_taken(host: str, port: int) -> bool:
    """Whether somebody else listens there."""
    error = bind_error(host, port)
    return error is not None and error.errno == errno.EADDRINUSE


def owner(port: int) -> str:
    """``process 123 (name)`` that listens on ``port``; "" where that can't be known: psutil is
    not installed, or the process is another user's."""
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
