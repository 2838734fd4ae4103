"""PromQL of the panels about the Collector, Prometheus, Loki, Alertmanager and the host.

Sources: https://opentelemetry.io/docs/collector/internal-telemetry/, the host metrics receiver's
documentation, and the engines' own /metrics.
"""

from __future__ import annotations

from telemetry import catalog as c
from telemetry.promql.functions import (
    RATE,
    exact_increase,
    fresh,
    or_zero,
    quantile,
    rate,
    target_states,
)
from telemetry.promql.losses import CAPACITY, DISK_SHARE, LOST, QUEUE


def _collector(name: str) -> str:
    # The suffixes of unit and counter depend on how the Collector exposes its own metrics.
    return f'{{__name__=~"otelcol_{name}(_bytes|_seconds)?(_total)?"}}'


def _items(what: str, by: str) -> str:
    """Return the rates of metric points and log records."""
    # The kind is only in the metric's name, which rate() drops: a label for each of the two.
    kinds = (
        f"label_replace(sum by ({by}) (rate({_collector(f'{what}_{kind}')}[{RATE}])), "
        f'"kind", "{label}", "", "")'
        for kind, label in (("metric_points", "metrics"), ("log_records", "logs"))
    )
    return " or ".join(kinds)


LOSS = f"sum by (job, metric) ({LOST}) > 0"
LOSS_COUNT = or_zero(f"sum({LOST})")
DROPPED = exact_increase(c.TELEMETRY_DROPPED.prometheus, "job, signal, reason", window="5m")
INTERACTION_FAILURES = exact_increase(
    c.GATEWAY_INTERACTION_LOG_FAILURES.prometheus, "reason", window="5m"
)
TARGETS_DOWN = or_zero("count(up == 0)")
TARGETS = target_states()

ACCEPTED = _items("receiver_accepted", "receiver")
SENT = _items("exporter_sent", "exporter")
RELAY_CONNECTIONS = f"sum({fresh(c.PLATFORM_RELAY_CONNECTIONS.prometheus)})"
RELAY_CLOSED = exact_increase(
    c.PLATFORM_RELAY_CONNECTIONS_REFUSED.prometheus, "reason", window="5m"
)
RELAY_REFUSED = exact_increase(c.PLATFORM_RELAY_REFUSED.prometheus, "handle, reason", window="5m")
RELAY_DROPPED = exact_increase(c.PLATFORM_RELAY_DROPPED.prometheus, "handle", window="5m")
QUEUE_FILL = f"max by (exporter) ({QUEUE} / {CAPACITY})"
QUEUE_FILL_NOW = or_zero(f"max({QUEUE} / {CAPACITY})")
COLLECTOR_MEMORY = f"sum by (job) ({_collector('process_memory_rss')})"
# Age of the newest sample of each service in Prometheus.
AGE = f"time() - max by (job) (timestamp({c.PROCESS_UPTIME.prometheus}))"
AGE_NOW = or_zero(f"max({AGE})")

SERIES = "sum by (job) (prometheus_tsdb_head_series)"
SAMPLES = rate("prometheus_tsdb_head_samples_appended_total", "job, type")
REJECTED = " or ".join(
    f'label_replace({rate(f"prometheus_tsdb_{name}_total", "job")}, "reason", "{label}", "", "")'
    for name, label in (
        ("out_of_order_samples", "out of order"),
        ("out_of_bound_samples", "out of bounds"),
        ("too_old_samples", "too old"),
    )
)
RULE_FAILURES = rate("prometheus_rule_evaluation_failures_total", "job")
RULE_DURATION = "max by (job) (prometheus_rule_group_last_duration_seconds)"
_NOTIFIES = '{{__name__=~"(alertmanager|grafana_alerting)_notifications{}_total"}}'
NOTIFIED = rate(_NOTIFIES.format(""), "integration") + " * 60"
NOTIFY_FAILED = rate(_NOTIFIES.format("_failed"), "integration") + " * 60"
SCRAPE_DURATION = "max by (job) (scrape_duration_seconds)"
STORAGE_BLOCKS = 'sum(prometheus_tsdb_storage_blocks_bytes{job="prometheus"})'
STORAGE_WAL = 'sum(prometheus_tsdb_wal_storage_size_bytes{job="prometheus"})'
STORAGE_HEAD = 'sum(prometheus_tsdb_head_chunks_storage_size_bytes{job="prometheus"})'

LOKI_BYTES = rate("loki_distributor_bytes_received_total")
LOKI_LINES = rate("loki_distributor_lines_received_total")
LOKI_DISCARDED = rate("loki_discarded_samples_total", "reason")
# Of requests from outside only: Loki's parts call each other by other routes.
LOKI_P95 = quantile(
    0.95, "loki_request_duration_seconds", "route", 'route=~"(loki_)?api_.*|otlp_.*"'
)
ENGINE_MEMORY = "sum by (job) (process_resident_memory_bytes)"

DISK = DISK_SHARE
DISK_NOW = or_zero(f"max({DISK_SHARE})")
_CPU = "system_cpu_time_seconds_total"
CPU = (
    f'sum by (instance, state) (rate({_CPU}{{state!="idle"}}[{RATE}])) '
    f"/ on (instance) group_left () sum by (instance) (rate({_CPU}[{RATE}]))"
)
_MEMORY = "system_memory_usage_bytes"
MEMORY = f"sum by (instance, state) ({_MEMORY})"
MEMORY_NOW = or_zero(
    f'max(sum by (instance) ({_MEMORY}{{state="used"}}) / sum by (instance) ({_MEMORY}))'
)
