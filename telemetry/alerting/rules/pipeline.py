"""Alerts about the pipeline itself: loss, and full disks."""

from __future__ import annotations

from telemetry.alerting.rule import VALUE, Group, Rule
from telemetry.alerting.thresholds import Thresholds
from telemetry.promql.functions import indent
from telemetry.promql.losses import DISK_LABELS, DISK_SHARE, FREE_BYTES, LOSS, LOSS_LABELS, QUEUE
from telemetry.system.units import number

PIPELINE = Group("pipeline", 10)


def _disk(thresholds: Thresholds) -> str:
    # A forecast needs at least an hour of data and a disk that is more than half full, or a single
    # download to an empty disk would fire. Both are chosen by judgement, not measured.
    return f"""\
(
{indent(DISK_SHARE)}
  > {number(thresholds.disk_percent / 100)}
)
or
(
{indent(DISK_SHARE)}
  > 0.5
  and
  max by ({DISK_LABELS}) (
    predict_linear({FREE_BYTES}[6h], {number(thresholds.disk_hours * 3600)})
  ) < 0
  and
  max by ({DISK_LABELS}) ({FREE_BYTES} offset 1h) >= 0
)"""


_MACHINE = "{{ .Labels.mountpoint }} on {{ .Labels.instance }}"


def rules(thresholds: Thresholds) -> tuple[Rule, ...]:
    """Return the pipeline rules with these thresholds."""
    return (
        Rule(
            name="TelemetryLoss",
            source="prometheus",
            group=PIPELINE,
            expression=LOSS,
            comparison=">",
            threshold=0,
            for_s=0,
            severity="warning",
            labels=tuple(LOSS_LABELS.split(", ")),
            summary='Telemetry is being lost at {{ index .Labels "job" }}',
            description=(
                '{{ index .Labels "job" }}: '
                f'{{{{ if eq (index .Labels "metric") "{QUEUE}" }}}}'
                f'the queue of {{{{ index .Labels "exporter" }}}} holds '
                f'{{{{ printf "%.0f" {VALUE} }}}} items and is nearly full'
                "{{ else }}"
                '{{ index .Labels "metric" }} rose by '
                f'{{{{ printf "%.0f" {VALUE} }}}} in the last 10 minutes'
                "{{ end }}"
                '{{ with index .Labels "reason" }}, reason {{ . }}{{ end }}.'
            ),
            value=f'{{{{ printf "%.0f" {VALUE} }}}} items',
            panel="pipeline.loss",
            no_data="OK",
            on_error="Error",
            states_reason="Many of these counters appear only with their first loss.",
        ),
        Rule(
            name="DiskSpaceLow",
            source="prometheus",
            group=PIPELINE,
            expression=_disk(thresholds),
            comparison=">",
            threshold=0,
            for_s=thresholds.disk_for_s,
            severity="warning",
            labels=tuple(DISK_LABELS.split(", ")),
            summary=f"{_MACHINE} is running out of space",
            description=(
                f"{_MACHINE} is {{{{ {VALUE} | humanizePercentage }}}} full: more than "
                f"{number(thresholds.disk_percent)} %, or full within "
                f"{number(thresholds.disk_hours)} hours at the current rate."
            ),
            value=f"{{{{ {VALUE} | humanizePercentage }}}} used",
            panel="pipeline.disk",
            no_data="OK",
            on_error="Error",
            states_reason="The query returns only file systems that are too full.",
        ),
    )
