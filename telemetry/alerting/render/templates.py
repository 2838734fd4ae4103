"""The notification templates: what, where, since when, value, links.

They are written in the language that Alertmanager and Grafana share, without template variables,
so that nothing in them looks like an environment variable to Grafana's provisioning.

Source: https://prometheus.io/docs/alerting/latest/notifications/
"""

from __future__ import annotations

from pathlib import Path

_FOLDER = Path(__file__).parent / "notices"

SUBJECT = '{{ template "telemetry.subject" . }}'
TEXT = '{{ template "telemetry.text" . }}'
HTML = '{{ template "telemetry.html" . }}'


def text_templates() -> str:
    """Definitions of the subject and the plain text."""
    return (_FOLDER / "message.tmpl").read_text(encoding="utf-8")


def html_templates() -> str:
    """Definitions of the e-mail's body; they need the text's."""
    return (_FOLDER / "email.tmpl").read_text(encoding="utf-8")
