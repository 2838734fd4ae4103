"""Render the files that the compose files mount: alert rules, channels, policies.

Without ``--environment`` these are the committed files. They have the defaults and the addresses
as seen from containers, and contain no secret: the webhook's token is read from a mounted secret.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from telemetry.alerting.channels import Channels
from telemetry.alerting.links import Links
from telemetry.alerting.render import alertmanager, grafana, prometheus
from telemetry.alerting.render.write import LOKI_TENANT
from telemetry.alerting.rules import RETIRED, all_rules
from telemetry.alerting.settings import AlertSettings
from telemetry.alerting.thresholds import Thresholds
from telemetry.errors import TelemetryError
from telemetry.system.arguments import Parser
from telemetry.system.atomic_files import replace_file

# compose.yaml passes this file to Grafana, which takes its mail server from its environment.
_MAIL = Path("compose/grafana.env")
# Parents of the mounted folders. Containers run as other users, so the mounted files must be
# readable to all; with mode 0700 here, other users of the machine can't reach them.
_CLOSED = ("compose", "grafana/provisioning")

COMPOSE_ENVIRON = {
    "TELEMETRY_GATEWAY_URL": "http://gateway:4000",
    "TELEMETRY_WEBHOOK_TOKEN_FILE": "/run/secrets/telemetry_webhook_token",
}


def compose_settings(*, environment: bool) -> AlertSettings:
    """Read the settings of the compose files.

    Args:
        environment: read the environment; False for the committed files.
    """
    environ = os.environ if environment else {}
    # Links are opened in browsers, which reach the published ports on 127.0.0.1. Notices are sent
    # by containers, which reach the gateway by name.
    return AlertSettings(
        Links.from_env(environ),
        Channels.from_env({**COMPOSE_ENVIRON, **environ}),
        Thresholds.from_env(environ),
    )


def rendered(settings: AlertSettings) -> dict[str, str]:
    """Render all files: path from the repository's root to content."""
    links, channels = settings.links, settings.channels
    rules = all_rules(settings.thresholds)
    files: dict[str, str] = {}
    for name, text in prometheus.rule_files(rules, links, "prometheus").items():
        files[f"compose/prometheus/rules/{name}"] = text
    for name, text in prometheus.rule_files(rules, links, "loki").items():
        files[f"compose/loki/rules/{LOKI_TENANT}/{name}"] = text
    for name, text in alertmanager.configuration(channels).items():
        files[f"compose/alertmanager/{name}"] = text
    for name, text in grafana.provisioning(rules, links, channels, RETIRED).items():
        files[f"grafana/provisioning/alerting/{name}"] = text
    for name, text in grafana.no_rules(rules, RETIRED).items():
        files[f"grafana/provisioning/no-alerting/{name}"] = text
    return files


def main(argv: list[str]) -> int:
    """Write the files below the given folder (default: the working folder)."""
    parser = Parser("python -m telemetry.alerting", description=__doc__)
    parser.add_argument(
        "folder", nargs="?", default=".", type=Path, help="root of the repository (default: .)"
    )
    parser.add_argument(
        "--environment",
        action="store_true",
        help="use the thresholds and channels of the environment; the files then contain secrets, "
        "and only you can enter their parent folders",
    )
    try:
        args = parser.parse_args(argv)
        settings = compose_settings(environment=args.environment)
    except TelemetryError as error:
        print(f"error: {error.message}\n  -> {error.remedy}", file=sys.stderr)
        return error.exit_code
    files = rendered(settings)
    mail = grafana.environment(settings.channels)
    for folder in {Path(name).parent for name in files}:
        for stale in (args.folder / folder).glob("*.rules.yaml"):
            if (folder / stale.name).as_posix() not in files:
                stale.unlink()
    if args.environment:
        for folder in (args.folder / name for name in _CLOSED):
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o700)
    for name, text in sorted(files.items()):
        path = args.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, text, 0o644)
        print(path)
    (args.folder / _MAIL).unlink(missing_ok=True)
    if mail:
        lines = (f"{key}={value}\n" for key, value in mail.items())
        replace_file(args.folder / _MAIL, "".join(lines))
        print(args.folder / _MAIL)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
