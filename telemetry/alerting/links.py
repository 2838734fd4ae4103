"""Where an alert's links lead: its runbook and its dashboard."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote_plus

from telemetry.alerting.rule import VALUE, Rule
from telemetry.dashboards.panel_ids import BY_DAYS, PANELS
from telemetry.settings.declare import HTTP_URL, Declared, Setting, declared
from telemetry.settings.stack import URL_SETTINGS

_RUNBOOKS = Setting(
    "TELEMETRY_ALERT_RUNBOOK_URL",
    HTTP_URL,
    "http://127.0.0.1:4000/runbooks",
    "where the runbooks are; an alert's heading is added after #",
    otherwise=lambda environ: f"{URL_SETTINGS['gateway'].read(environ)}/runbooks",
    shown="the gateway's /runbooks",
)


@dataclass(frozen=True)
class Links(Declared):
    """The addresses that links start with.

    Args:
        grafana: base address of Grafana as a person's browser reaches it.
        runbooks: address of the runbooks; an alert's heading is added after ``#``.
    """

    grafana: str = declared(URL_SETTINGS["grafana"])
    runbooks: str = declared(_RUNBOOKS)

    def runbook(self, rule: Rule) -> str:
        """The address of the rule's runbook."""
        return f"{self.runbooks}#{rule.name.lower()}"

    def dashboard(self, rule: Rule, labels: Mapping[str, str] | None = None) -> str:
        """The address of the panel that shows the rule's value.

        Args:
            rule: the rule.
            labels: an alert's labels; None for a Go template that fills them in.
        """
        uid, panel = PANELS[rule.panel]
        variables = "".join(
            f"&var-{variable}="
            + (
                f'{{{{ index .Labels "{label}" | urlquery }}}}'
                if labels is None
                else quote_plus(labels.get(label, ""))
            )
            for variable, label in rule.variables
        )
        # Ten minutes lie between two points of seven days: too long to see what an alert is
        # about.
        lately = "&from=now-6h&to=now" if uid in BY_DAYS else ""
        return f"{self.grafana}/d/{uid}?viewPanel={panel}{lately}{variables}"


def texts(rule: Rule, links: Links, value: str) -> dict[str, str]:
    """What goes with every alert of ``rule``: its texts and links, as Go templates.

    Args:
        value: what the evaluator calls the rule's present number, e.g. ``.Value``.
    """
    templates = {
        "summary": rule.summary,
        "description": rule.description,
        "value": rule.value,
        "runbook_url": links.runbook(rule),
        "dashboard_url": links.dashboard(rule),
    }
    return {name: text.replace(VALUE, value) for name, text in templates.items()}
