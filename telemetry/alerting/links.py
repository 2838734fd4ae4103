"""An alert's links: its runbook and its dashboard."""

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
    "address of the runbooks; links add # and the alert's heading",
    otherwise=lambda environ: f"{URL_SETTINGS['gateway'].read(environ)}/runbooks",
    shown="the gateway's /runbooks",
)


@dataclass(frozen=True)
class Links(Declared):
    """Base addresses of the links.

    Args:
        grafana: base address of Grafana, as browsers reach it.
        runbooks: address of the runbooks; links add ``#`` and the alert's heading.
    """

    grafana: str = declared(URL_SETTINGS["grafana"])
    runbooks: str = declared(_RUNBOOKS)

    def runbook(self, rule: Rule) -> str:
        """Return the address of the rule's runbook."""
        return f"{self.runbooks}#{rule.name.lower()}"

    def dashboard(self, rule: Rule, labels: Mapping[str, str] | None = None) -> str:
        """Return the address of the panel that shows the rule's value.

        Args:
            rule: the rule.
            labels: an alert's labels; None for a Go template that inserts them.
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
        # In a range of seven days points are ten minutes apart: too far to see an alert's cause.
        lately = "&from=now-6h&to=now" if uid in BY_DAYS else ""
        return f"{self.grafana}/d/{uid}?viewPanel={panel}{lately}{variables}"


def texts(rule: Rule, links: Links, value: str) -> dict[str, str]:
    """Return the annotations of a rule's alerts: texts and links, as Go templates.

    Args:
        rule: the rule.
        links: base addresses of the links.
        value: the evaluator's template expression for the current value, e.g. ``.Value``.
    """
    templates = {
        "summary": rule.summary,
        "description": rule.description,
        "value": rule.value,
        "runbook_url": links.runbook(rule),
        "dashboard_url": links.dashboard(rule),
    }
    return {name: text.replace(VALUE, value) for name, text in templates.items()}
