"""Alerts about the pipeline itself: what it lost, and the disk it writes to."""

from __future__ import annotations

from telemetry import catalog
from telemetry.alerting.rule import VALUE, Group, Rule
from telemetry.alerting.rules.promql import indent
from telemetry.alerting.thresholds import Thresholds, number

PIPELINE = Group("pipeline", 10)

# Every counter that says "something was refused, dropped or not delivered", from the app to the
# notification. Units and suffixes of the Collector's depend on its settings, hence the tails.
LOSS_COUNTERS = "|".join(
    (
        catalog.TELEMETRY_DROPPED.prometheus,
        catalog.GATEWAY_INTERACTION_LOG_FAILURES.prometheus,
        "otelcol_(receiver_(refused|failed)|processor_([a-z_]+_)?(refused|dropped)"
        "|exporter_(enqueue_failed|send_failed))_(spans|metric_points|log_records)[a-z_]*",
        "loki_discarded_samples_total",
        "prometheus_target_scrapes_sample_(out_of_order|duplicate_timestamp|out_of_bounds)_total",
        "prometheus_tsdb_(out_of_order|out_of_bound|too_old)_samples_total",
        "(loki_)?prometheus_rule_evaluation_failures_total",
        "(loki_)?prometheus_notifications_dropped_total",
        "(alertmanager|grafana_alerting)_notifications_failed_total",
        # All that Grafana 9.4 counts of its notices.
        "grafana_emails_sent_failed",
    )
)
_LOSS_LABELS = "metric, job, signal, reason, receiver, exporter, integration"
_QUEUE = "otelcol_exporter_queue_size"
_CAPACITY = "otelcol_exporter_queue_capacity"
_ONE_QUEUE = "job, instance, exporter, data_type"
_QUEUE_FULL = 0.8  # A judgement: time to act before anything is refused.


_ALL = f'{{__name__=~"{LOSS_COUNTERS}"}}'


def _counted(counters: str) -> str:
    return f"""\
sum by (instance, {_LOSS_LABELS}) (
  label_join({counters}, "metric", "", "__name__")
)"""


# Each counter less itself 10 minutes ago; the counter as it stands where it was not there then
# (many of these appear only with their first loss, whose value `increase()` never sees) or has
# been reset since. The hour bridges a time when Prometheus itself was down. A queue that fills
# up is loss about to happen.
LOST = f"""\
sum by ({_LOSS_LABELS}) (
  (
{indent(_counted(_ALL), 4)}
    -
{indent(_counted(f"last_over_time({_ALL}[1h] offset 10m)"), 4)}
  ) >= 0
  or
{indent(_counted(_ALL))}
)"""
_LOSS = f"""\
{LOST}
or
label_replace(
  sum by (job, exporter, data_type) (
    {_QUEUE}
    and on ({_ONE_QUEUE}) {_QUEUE} / on ({_ONE_QUEUE}) {_CAPACITY} > {_QUEUE_FULL}
  ),
  "metric", "{_QUEUE}", "", ""
)"""

_FILESYSTEM = "system_filesystem_usage_bytes"
_DISK = "instance, device, mountpoint"
# Of what an ordinary user can use, as df counts it: reserved blocks are neither. A read-only one
# is always full.
_USED_BYTES = f'{_FILESYSTEM}{{state="used", mode!="ro"}}'
_FREE_BYTES = f'{_FILESYSTEM}{{state="free", mode!="ro"}}'
_USED = f"max by ({_DISK}) ({_USED_BYTES})"
_FREE = f"max by ({_DISK}) ({_FREE_BYTES})"
DISK_SHARE = f"""\
{_USED}
/
(
  {_USED}
  +
  {_FREE}
)"""


def _disk(thresholds: Thresholds) -> str:
    # A forecast needs a past: an hour of it at least, and a disk more than half full, or a
    # single download into an empty one would be reported. Both are judgements.
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
  max by ({_DISK}) (
    predict_linear({_FREE_BYTES}[6h], {number(thresholds.disk_hours * 3600)})
  ) < 0
  and
  max by ({_DISK}) ({_FREE_BYTES} offset 1h) >= 0
)"""


_MACHINE = "{{ .Labels.mountpoint }} on {{ .Labels.instance }}"


def rules(thresholds: Thresholds) -> tuple[Rule, ...]:
    """The pipeline rules.

    Args:
        thresholds: the limits to compare with.
    """
    return (
        Rule(
            name="TelemetryLoss",
            source="prometheus",
            group=PIPELINE,
            expression=_LOSS,
            comparison=">",
            threshold=0,
            for_s=0,
            severity="warning",
            labels=tuple(_LOSS_LABELS.split(", ")),
            summary='Telemetry is being lost at {{ index .Labels "job" }}',
            description=(
                '{{ index .Labels "job" }}: '
                f'{{{{ if eq (index .Labels "metric") "{_QUEUE}" }}}}'
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
            states_reason="These counters often appear with the first loss only.",
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
            labels=tuple(_DISK.split(", ")),
            summary=f"{_MACHINE} is running out of space",
            description=(
                f"{_MACHINE} is {{{{ {VALUE} | humanizePercentage }}}} full: more than "
                f"{number(thresholds.disk_percent)} %, or full within "
                f"{number(thresholds.disk_hours)} hours at the present rate."
            ),
            value=f"{{{{ {VALUE} | humanizePercentage }}}} used",
            panel="pipeline.disk",
            no_data="OK",
            on_error="Error",
            states_reason="The query answers only what is too full.",
        ),
    )
