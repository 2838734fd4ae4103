"""Leave scrapes out of the servers' access logs.

Prometheus requests the metrics page every few seconds. A line for each would fill the terminal and
the log store. Only paths at which our page has answered are left out.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote

_LOGGERS = ("uvicorn.access", "gunicorn.access", "hypercorn.access", "granian.access")
# A page under a root path that varies, such as a tenant's name, could have any number of paths.
_MAX_PATHS = 100
_paths: set[str] = set()


def leave_out(path: str) -> None:
    """Log no further GET and HEAD requests to ``path``."""
    if path in _paths or len(_paths) >= _MAX_PATHS:
        return
    if not _paths:
        for name in _LOGGERS:
            # A filter of the logger: the record is neither printed nor exported. The servers'
            # logging configuration replaces handlers, but keeps filters.
            logging.getLogger(name).addFilter(_is_logged)
        if "daphne.access" in sys.modules:
            _filter_daphne(sys.modules["daphne.access"].AccessLogGenerator)
    _paths.add(path)


def _is_logged(record: logging.LogRecord) -> bool:
    args = record.args
    if isinstance(args, Mapping):
        # gunicorn and hypercorn; granian.
        method, path = args.get("m") or args.get("method"), args.get("U") or args.get("path")
    elif isinstance(args, tuple) and len(args) == 5:
        _, method, path, _, _ = args  # uvicorn
    else:
        return True  # another version
    return not _is_left_out(method, path)


def _is_left_out(method: object, path: object) -> bool:
    return method in ("GET", "HEAD") and unquote(str(path).partition("?")[0]) in _paths


def _filter_daphne(generator: Any) -> None:
    """Filter daphne's access log, which is not one of `logging`."""
    write: Callable[..., None] = generator.__call__

    def writing(self: Any, protocol: str, action: str, details: Mapping[str, Any]) -> None:
        complete = (protocol, action) == ("http", "complete")
        if not (complete and _is_left_out(details["method"], details["path"])):
            write(self, protocol, action, details)

    generator.__call__ = writing
