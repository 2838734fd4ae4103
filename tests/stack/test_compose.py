"""The compose files: pins of engines.toml, ports on loopback only, secrets only if needed."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from telemetry.settings import credentials
from telemetry.settings import stack as stack_settings
from telemetry.stack.engines import engine as engines

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "compose"
ENGINES, SERVICES, EVALUATED, AUTH = (
    yaml.safe_load((COMPOSE / f"compose{name}.yaml").read_text())
    for name in ("", ".services", ".prometheus", ".auth")
)
CERTIFICATES = ("TELEMETRY_TLS_CA", "TELEMETRY_TLS_CERTIFICATE", "TELEMETRY_TLS_KEY")
OURS = {"gateway", "platform", "proxy"}


def _all() -> dict[str, dict[str, Any]]:
    return {
        name: ENGINES["services"].get(name) or SERVICES["services"][name]
        for name in (*ENGINES["services"], *OURS)
    }


def test_images_have_pinned_versions() -> None:
    table = engines.table()
    assert {name: row["image"] for name, row in ENGINES["services"].items()} == {
        name: engine.image.format(version=engine.version) for name, engine in table.items()
    }


def test_image_of_package_has_its_version() -> None:
    (version,) = re.findall(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.M)
    images = {SERVICES["services"][name]["image"] for name in OURS}
    assert images == {f"container-telemetry:{version}"}


def test_ports_are_published_on_loopback_as_documented() -> None:
    published = [port for row in _all().values() for port in row.get("ports", [])]
    assert len(published) == 8
    for port in published:
        host, outside, inside = port.split(":")
        assert host == "127.0.0.1"
        assert outside == inside
        assert int(outside) in stack_settings.PORTS.values()


def test_only_the_filter_mounts_docker_socket() -> None:
    """The platform reaches Docker through it, and nothing else does."""
    rows = {**ENGINES["services"], **SERVICES["services"]}
    mounts = {name: [str(volume) for volume in row["volumes"]] for name, row in rows.items()}
    assert {name for name, found in mounts.items() if any("docker.sock" in v for v in found)} == {
        "docker-filter"
    }
    row, platform = rows["docker-filter"], rows["platform"]
    assert "/var/run/docker.sock:/var/run/docker.sock:ro" in mounts["docker-filter"]
    with_filters_socket = {
        name for name, found in mounts.items() if any(v.startswith("docker-filter:") for v in found)
    }
    assert with_filters_socket == {"docker-filter", "platform"}
    (endpoint,) = re.findall("-proxysocketendpoint=(.+)", "\n".join(row["command"]))
    assert platform["environment"]["DOCKER_HOST"] == f"unix://{endpoint}"
    assert f"docker-filter:{Path(endpoint).parent}:ro" in mounts["platform"]
    assert re.fullmatch(r"[\w/-]+:\d+\.\d+\.\d+", row["image"]), "a pinned version"
    assert row["network_mode"] == "none"


def test_containers_have_least_privileges() -> None:
    for name, row in _all().items():
        assert not row.get("privileged"), name
        assert "no-new-privileges:true" in row["security_opt"], name
    for name in (*OURS, "docker-filter"):
        assert SERVICES["services"][name]["cap_drop"] == ["ALL"]
        assert SERVICES["services"][name]["read_only"]


def test_only_proxy_gets_provider_keys_in_compose() -> None:
    holders = {
        name
        for name, row in _all().items()
        if any(key.endswith("_API_KEY") for key in row.get("environment", {}))
    }
    assert holders == {"proxy"}


def test_secrets_have_no_default_and_are_all_generated() -> None:
    text = "".join((COMPOSE / f"compose{n}.yaml").read_text() for n in ("", ".services", ".auth"))
    used = dict(re.findall(r"\$\{(TELEMETRY_(?:\w+(?:TOKEN|PASSWORD)|TLS_\w+))(:.)", text))
    assert set(used.values()) == {":?"}, "compose must refuse to start without it"
    script = (COMPOSE / "secrets.sh").read_text()
    made = re.search(r"for name in ([A-Z_ ]+);", script)
    assert made is not None
    names = {f"TELEMETRY_{name}" for name in made[1].split()}
    assert names == set(credentials.GENERATED)
    written = names | set(re.findall(r"TELEMETRY_TLS_\w+", script))
    assert set(used) | {"TELEMETRY_WEBHOOK_TOKEN"} == written == names | set(CERTIFICATES)
    assert {"secrets.env", "/secrets/"} <= set((ROOT / ".gitignore").read_text().split())


def test_engines_get_the_certificates_that_their_files_name() -> None:
    def files(row: dict[str, Any]) -> set[str]:
        return {f"/run/secrets/{s['target']}" for s in row["secrets"] if isinstance(s, dict)}

    rows = _all()
    named = {
        name: set(re.findall(r"/run/secrets/[\w-]+\.pem", (COMPOSE / file).read_text()))
        for name, file in (
            ("prometheus", "web.yaml"),
            ("prometheus", "client.yaml"),
            ("prometheus", "prometheus/prometheus.yaml"),
            ("alertmanager", "web.yaml"),
        )
    }
    assert {name: files(rows[name]) for name in named} == named
    for name in ("collector", "loki", "gateway"):
        assert files(rows[name]) == named["prometheus"], name
    for row in ENGINES["secrets"].values():
        assert "environment" in row or row["file"].startswith("../secrets/")


def test_every_mounted_file_exists() -> None:
    for document in (ENGINES, SERVICES, EVALUATED, AUTH):
        for row in document["services"].values():
            for volume in row.get("volumes", []):
                source = volume.split(":")[0] if isinstance(volume, str) else ""
                if source.startswith("."):
                    assert (COMPOSE / source).exists(), source


def test_only_one_evaluator_gets_rules() -> None:
    """By default only Grafana; with the overlay only Prometheus and Loki."""

    def targets(document: dict[str, Any], name: str) -> dict[str, str]:
        rows = document["services"][name].get("volumes", [])
        return {
            **{v.split(":")[1]: v.split(":")[0] for v in rows if isinstance(v, str)},
            **{v["target"]: v["type"] for v in rows if isinstance(v, dict)},
        }

    rules = {"prometheus": "/etc/prometheus/rules", "loki": "/etc/loki/rules"}
    provisioned = "/etc/grafana/provisioning/alerting"
    assert targets(ENGINES, "grafana")[provisioned] == "../grafana/provisioning/alerting"
    assert "/etc/prometheus/rules" not in targets(ENGINES, "prometheus")
    assert targets(ENGINES, "loki")["/etc/loki/rules"] == "tmpfs"
    for name, target in rules.items():
        assert targets(EVALUATED, name)[target].startswith("./")
    assert targets(EVALUATED, "grafana")[provisioned] == "../grafana/provisioning/no-alerting"


def test_prometheus_targets_contain_every_service() -> None:
    rows = json.loads((COMPOSE / "prometheus" / "targets" / "services.json").read_text())
    assert {row["labels"]["job"]: row["targets"] for row in rows} == {
        name: [f"{name}:{stack_settings.PORTS[name]}"] for name in OURS
    }


@pytest.mark.parametrize(
    "overlays",
    [(), (".services",), (".prometheus",), (".auth",), (".services", ".prometheus", ".auth")],
)
@pytest.mark.stack
def test_docker_compose_accepts_files(overlays: tuple[str, ...], docker_compose: list[str]) -> None:
    files = [f"--file={COMPOSE}/compose{name}.yaml" for name in ("", *overlays)]
    secrets = (*credentials.GENERATED, *CERTIFICATES)
    environ = {**os.environ, **dict.fromkeys(secrets, "x")}
    done = subprocess.run(
        [*docker_compose, *files, "config", "--format", "json"],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    merged = json.loads(done.stdout)["services"]
    for row in merged.values():
        for port in row.get("ports", []):
            assert port["host_ip"] == "127.0.0.1"
    sources = {v["target"]: v["source"] for v in merged["grafana"]["volumes"]}
    alerting = "no-alerting" if ".prometheus" in overlays else "alerting"
    assert Path(sources["/etc/grafana/provisioning/alerting"]).name == alerting

    without = {key: value for key, value in environ.items() if key not in secrets}
    refused = subprocess.run(
        [*docker_compose, *files, "config"],
        env=without,
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode != 0
    assert "see the top of compose.yaml" in refused.stderr
