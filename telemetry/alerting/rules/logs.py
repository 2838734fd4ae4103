"""Alerts from logs."""

from __future__ import annotations

from telemetry.alerting.rule import VALUE, Group, Rule
from telemetry.alerting.thresholds import Thresholds, number

# A day of error lines is counted each time: no more often than a minute.
LOGS = Group("logs", 60)

# The collector spells every source's level alike; as an index label it keeps the day's count from
# reading any other line.
_ERRORS = '{service_name=~".+", level=~"error|fatal"}'
_WINDOWS_A_DAY = 24 * 60 // 5


def rules(thresholds: Thresholds) -> tuple[Rule, ...]:
    """The log rules.

    Args:
        thresholds: the limits to compare with.
    """
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
            summary="{{ .Labels.service_name }} logs unusually many errors",
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
