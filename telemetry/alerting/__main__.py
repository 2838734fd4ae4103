"""``python -m telemetry.alerting [FOLDER]``: render the committed files again.

They are what the compose files mount: defaults, addresses as seen from containers, and the
webhook's token read from a mounted secret, so that no secret stands in them.
"""

from __future__ import annotations

import sys
from pathlib import Path

from telemetry.alerting import alertmanager, grafana, prometheus
from telemetry.alerting.channels import Channels
from telemetry.alerting.links import Links
from telemetry.alerting.provision import LOKI_TENANT, replace_file
from telemetry.alerting.rules import RETIRED, all_rules
from telemetry.alerting.thresholds import Thresholds

COMPOSE_ENVIRON = {
    "TELEMETRY_GATEWAY_URL": "http://gateway:4000",
    "TELEMETRY_WEBHOOK_TOKEN_FILE": "/run/secrets/telemetry_webhook_token",
}


def rendered() -> dict[str, str]:
    """The committed files: path from the repository's top to content."""
    links = Links.from_env({})  # People's browsers reach the published ports on 127.0.0.1.
    channels = Channels.from_env(COMPOSE_ENVIRON)
    rules = all_rules(Thresholds())
    files: dict[str, str] = {}
    for name, text in prometheus.rule_files(rules, links, "prometheus").items():
        files[f"compose/prometheus/rules/{name}"] = text
    for name, text in prometheus.rule_files(rules, links, "loki").items():
        files[f"compose/loki/rules/{LOKI_TENANT}/{name}"] = text
    for name, text in alertmanager.configuration(channels).items():
        files[f"compose/alertmanager/{name}"] = text
    for name, text in grafana.provisioning(rules, links, channels, RETIRED).items():
        files[f"grafana/provisioning/alerting/{name}"] = text
    return files


def main(argv: list[str]) -> int:
    """Write the files under the folder given, else the present one."""
    base = Path(argv[0] if argv else ".")
    files = rendered()
    folders = {Path(name).parent for name in files}
    for folder in folders:
        for stale in (base / folder).glob("*.rules.yaml"):
            if (folder / stale.name).as_posix() not in files:
                stale.unlink()
    for name, text in sorted(files.items()):
        path = base / name
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, text, mode=0o644)
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
