"""The notification templates: summary, place, start time, value, links.

They use the template language that Alertmanager and Grafana share. They have no template
variables, which Grafana's provisioning would take for environment variables.

Source: https://prometheus.io/docs/alerting/latest/notifications/
"""

from __future__ import annotations

from pathlib import Path

_FOLDER = Path(__file__).parent / "notices"

SUBJECT = '{{ template "telemetry.subject" . }}'
TEXT = '{{ template "telemetry.text" . }}'
HTML = '{{ template "telemetry.html" . }}'


def text_templates() -> str:
    """Return the templates of the subject and the plain text."""
    return (_FOLDER / "message.tmpl").read_text(encoding="utf-8")


def html_templates() -> str:
    """Return the templates of the e-mail's body, which use those of the text."""
    return (_FOLDER / "email.tmpl").read_text(encoding="utf-8")
