"""`telemetry gateway|platform|proxy|agent`: one service, in the foreground."""

from __future__ import annotations

import argparse
import importlib
import os
from typing import Any

# Each module has `parser()` and `main(argv)`.
SERVICES = {
    "gateway": ("telemetry.services.gateway.server", "run the gateway (web shell and assistant)"),
    "platform": ("telemetry.services.platform.server", "run the platform (one container per user)"),
    "proxy": ("telemetry.services.proxy.server", "run the proxy (metered model calls)"),
    "agent": ("telemetry.services.platform.agent", "run the host agent (samples containers)"),
}


def add_commands(subparsers: Any) -> None:
    for name, (module, text) in SERVICES.items():
        # The service parses its own options: this module stays light.
        parser = subparsers.add_parser(name, help=text, add_help=False)
        parser.add_argument("rest", nargs=argparse.REMAINDER)
        parser.set_defaults(run=_runner(module))


def _runner(module: str) -> Any:
    def run(args: argparse.Namespace) -> int:
        from telemetry.settings import credentials, otlp_token

        otlp_token.add(os.environ, credentials.OTLP_TOKEN)
        code: int = importlib.import_module(module).main(args.rest)
        return code

    return run
