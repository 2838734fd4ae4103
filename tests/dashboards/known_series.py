"""Series that panels may query: the catalog's, the components' and those of scrapes."""

from __future__ import annotations

from telemetry import catalog
from telemetry.naming import label_name

# Pushed series have all three, scraped series the first two.
OURS = frozenset(("job", "instance", "handle"))
_QUEUE = "job instance exporter data_type"
_PROMETHEUS_LOST = (
    "prometheus_tsdb_out_of_order_samples_total",
    "prometheus_tsdb_out_of_bound_samples_total",
    "prometheus_tsdb_too_old_samples_total",
)

COMPONENTS: dict[str, frozenset[str]] = {
    name: frozenset(labels.split())
    for name, labels in {
        "up": "job instance",
        "scrape_duration_seconds": "job instance",
        "ALERTS": "alertname alertstate severity handle job instance user_id",
        "otelcol_receiver_accepted_metric_points": "job instance receiver",
        "otelcol_receiver_accepted_log_records": "job instance receiver",
        "otelcol_exporter_sent_metric_points": "job instance exporter",
        "otelcol_exporter_sent_log_records": "job instance exporter",
        "otelcol_exporter_queue_size": _QUEUE,
        "otelcol_exporter_queue_capacity": _QUEUE,
        "otelcol_process_memory_rss": "job instance",
        "process_resident_memory_bytes": "job instance",
        "prometheus_tsdb_head_series": "job instance",
        "prometheus_tsdb_head_samples_appended_total": "job instance type",
        **dict.fromkeys(_PROMETHEUS_LOST, "job instance"),
        "prometheus_tsdb_storage_blocks_bytes": "job instance",
        "prometheus_tsdb_wal_storage_size_bytes": "job instance",
        "prometheus_tsdb_head_chunks_storage_size_bytes": "job instance",
        "prometheus_rule_evaluation_failures_total": "job instance rule_group",
        "prometheus_rule_group_last_duration_seconds": "job instance rule_group",
        "alertmanager_notifications_total": "job instance integration",
        "alertmanager_notifications_failed_total": "job instance integration reason",
        "loki_distributor_bytes_received_total": "job instance tenant",
        "loki_distributor_lines_received_total": "job instance tenant",
        "loki_discarded_samples_total": "job instance tenant reason",
        "loki_request_duration_seconds_bucket": "job instance route method status_code le",
        "system_cpu_time_seconds_total": "job instance state",
        "system_memory_usage_bytes": "job instance state",
        "system_filesystem_usage_bytes": "job instance device mountpoint mode type state",
    }.items()
}


def catalog_series() -> dict[str, frozenset[str]]:
    """Return the labels of the catalog's series, by Prometheus name."""
    found = {}
    for metric in catalog.METRICS.values():
        labels = OURS | {label_name(key) for key in metric.attributes}
        if metric.kind == "histogram":
            found[f"{metric.prometheus}_bucket"] = labels | {"le"}
            found[f"{metric.prometheus}_sum"] = labels
            found[f"{metric.prometheus}_count"] = labels
        else:
            found[metric.prometheus] = labels
    return found
