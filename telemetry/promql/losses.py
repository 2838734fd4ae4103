"""What the pipeline lost and how full its disks are, for rules and panels."""

from __future__ import annotations

from telemetry import catalog
from telemetry.promql.functions import indent

# Every counter of what was refused, dropped or not delivered, from the app to the notification.
# The suffixes of the Collector's counters depend on its settings, hence the patterns.
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
        # Grafana 9.4 counts nothing else about its notices.
        "grafana_emails_sent_failed",
    )
)
LOSS_LABELS = "metric, job, signal, reason, receiver, exporter, integration"
QUEUE = "otelcol_exporter_queue_size"
CAPACITY = "otelcol_exporter_queue_capacity"
_ONE_QUEUE = "job, instance, exporter, data_type"
_QUEUE_FULL = 0.8  # leaves time to act; chosen by judgement, not measured


_ALL = f'{{__name__=~"{LOSS_COUNTERS}"}}'


def _counted(counters: str) -> str:
    return f"""\
sum by (instance, {LOSS_LABELS}) (
  label_join({counters}, "metric", "", "__name__")
)"""


# Each counter minus its value 10 minutes ago. If it did not exist then (many appear only with
# their first loss, which `increase()` never sees) or was reset since, the counter itself. The
# hour bridges a time when Prometheus itself was down. A queue that fills up is loss about to
# happen.
LOST = f"""\
sum by ({LOSS_LABELS}) (
  (
{indent(_counted(_ALL), 4)}
    -
{indent(_counted(f"last_over_time({_ALL}[1h] offset 10m)"), 4)}
  ) >= 0
  or
{indent(_counted(_ALL))}
)"""
LOSS = f"""\
{LOST}
or
label_replace(
  sum by (job, exporter, data_type) (
    {QUEUE}
    and on ({_ONE_QUEUE}) {QUEUE} / on ({_ONE_QUEUE}) {CAPACITY} > {_QUEUE_FULL}
  ),
  "metric", "{QUEUE}", "", ""
)"""

_FILESYSTEM = "system_filesystem_usage_bytes"
DISK_LABELS = "instance, device, mountpoint"
# As df counts: of the space that ordinary users can use; reserved blocks are neither used nor
# free. A read-only file system is always full.
_USED_BYTES = f'{_FILESYSTEM}{{state="used", mode!="ro"}}'
FREE_BYTES = f'{_FILESYSTEM}{{state="free", mode!="ro"}}'
_USED = f"max by ({DISK_LABELS}) ({_USED_BYTES})"
_FREE = f"max by ({DISK_LABELS}) ({FREE_BYTES})"
DISK_SHARE = f"""\
{_USED}
/
(
  {_USED}
  +
  {_FREE}
)"""
