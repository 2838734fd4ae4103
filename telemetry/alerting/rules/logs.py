"""Alerts from logs."""

from __future__ import annotations

from telemetry.alerting.rule import VALUE, Group, Rule
from telemetry.alerting.thresholds import Thresholds
from telemetry.system.units import number

# Each evaluation counts a day of error lines, so only once a minute.
LOGS = Group("logs", 60)

# The Collector gives every source the same levels. Level is an index label, so that the count
# over a day reads no other lines.
_ERRORS = '{service_name=~".+", level=~"error|fatal"}'
_WINDOWS_A_DAY = 24 * 60 // 5


def rules(thresholds: Thresholds) -> tuple[Rule, ...]:
    """Return the log rules with these thresholds."""
    ratio = number(thresholds.error_lines_ratio)
    return (
        Rule(
            name="ErrorLogBurst",
            source="loki",
            group=LOGS,
            expression=f"""\
sum by (service_name, handle) (count_over_time({_ERRORS} [5m]))
>
{ratio} * sum by (service_name, handle) (count_over_time({_ERRORS} [1d])) / {_WINDOWS_A_DAY}""",
            comparison=">",
            threshold=thresholds.error_lines,
            for_s=thresholds.error_lines_for_s,
            severity="warning",
            labels=("service_name", "handle"),
            summary="{{ .Labels.service_name }} logs more errors than usual",
            description=(
                "{{ .Labels.service_name }}"
                '{{ with index .Labels "handle" }} in container {{ . }}{{ end }} logged '
                f'{{{{ printf "%.0f" {VALUE} }}}} error lines in 5 minutes: more than '
                f"{number(thresholds.error_lines)}, and {ratio} times its rate of the last day."
            ),
            value=f'{{{{ printf "%.0f" {VALUE} }}}} error lines in 5 m',
            panel="logs.errors",
            no_data="OK",
            on_error="Error",
            states_reason="No lines means no errors; a failing query means that Loki is down.",
            variables=(("service", "service_name"),),
        ),
    )
