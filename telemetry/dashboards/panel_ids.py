"""The dashboards' uids and their panels' ids.

They are literals because links and alert rules contain them. A panel's id never changes: a new
panel takes the next free id of its dashboard, and the id of a removed panel is never used again.
"""

from __future__ import annotations

OVERVIEW = "telemetry-overview"
CONTAINER = "telemetry-container"
COST = "telemetry-cost"
SERVICES = "telemetry-services"
LOGS = "telemetry-logs"
PIPELINE = "telemetry-pipeline"

# Dashboards that count by days. Links to them don't carry the time range: most hours contain no
# midnight.
BY_DAYS = frozenset((COST,))

PROMETHEUS = "telemetry-prometheus"
LOKI = "telemetry-loki"

_IDS: dict[str, dict[str, int]] = {
    OVERVIEW: {
        "overview.critical": 1,
        "overview.warnings": 2,
        "overview.services_down": 3,
        "overview.containers_down": 4,
        "overview.errors": 5,
        "overview.loss": 6,
        "overview.cost": 7,
        "overview.websockets": 8,
        "overview.alerts": 9,
        "overview.states": 10,
        "overview.provision": 11,
        "overview.budget": 12,
        "overview.requests": 13,
        "overview.dispatches": 14,
        "overview.failures": 15,
        "overview.containers": 16,
        "overview.latency": 17,
        "overview.logs": 18,
        "overview.provisioning": 19,
        "overview.spending": 20,
    },
    CONTAINER: {
        "container.state": 1,
        "container.health": 2,
        "container.cpu_now": 3,
        "container.memory_share": 4,
        "container.restarts_count": 5,
        "container.oom_count": 6,
        "container.cost_today": 7,
        "container.error_lines": 8,
        "container.cpu": 9,
        "container.memory": 10,
        "container.network": 11,
        "container.restarts": 12,
        "container.oom": 13,
        "container.up": 14,
        "container.healthy": 15,
        "container.requests": 16,
        "container.dispatch": 17,
        "container.cost": 18,
        "container.logs": 19,
    },
    COST: {
        "cost.total_today": 1,
        "cost.total": 2,
        "cost.calls": 3,
        "cost.tokens_total": 4,
        "cost.per_dispatch": 5,
        "cost.quota_highest": 6,
        "cost.unpriced_count": 7,
        "cost.rejections_count": 8,
        "cost.daily": 9,
        "cost.models": 10,
        "cost.users": 11,
        "cost.tokens": 12,
        "cost.per_dispatch_trend": 13,
        "cost.budget": 14,
        "cost.today": 15,
        "cost.unpriced": 16,
        "cost.rejections": 17,
        "cost.upstream_errors": 18,
        "cost.duration": 19,
        "cost.first_token": 20,
        "cost.token_time": 21,
        "cost.call_sizes": 22,
    },
    SERVICES: {
        "services.down_count": 1,
        "services.rate_total": 2,
        "services.error_share": 3,
        "services.p95": 4,
        "services.active_total": 5,
        "services.websockets_total": 6,
        "services.rate": 7,
        "services.errors": 8,
        "services.latency": 9,
        "services.up": 10,
        "services.routes": 11,
        "services.failures": 12,
        "services.heatmap": 13,
        "services.active": 14,
        "services.body_sizes": 15,
        "services.ws_connections": 16,
        "services.ws_messages": 17,
        "services.ws_duration": 18,
        "gateway.queue": 19,
        "gateway.dispatches": 20,
        "gateway.dispatch_latency": 21,
        "gateway.paths": 22,
        "gateway.path_latency": 23,
        "gateway.notices": 24,
        "services.cpu": 25,
        "services.memory": 26,
        "services.loop_lag": 27,
        "services.files": 28,
        "services.threads": 29,
        "services.gc": 30,
        "services.uptime": 31,
    },
    LOGS: {
        "logs.volume": 1,
        "logs.errors": 2,
        "logs.lines": 3,
        "logs.noisiest": 4,
        "logs.error_count": 5,
        "logs.line_count": 6,
    },
    PIPELINE: {
        "pipeline.loss_count": 1,
        "pipeline.targets_down": 2,
        "pipeline.queue_now": 3,
        "pipeline.disk_now": 4,
        "pipeline.age_now": 5,
        "pipeline.memory_now": 6,
        "pipeline.loss": 7,
        "pipeline.up": 8,
        "pipeline.accepted": 9,
        "pipeline.sent": 10,
        "pipeline.queue": 11,
        "pipeline.age": 12,
        "pipeline.dropped": 13,
        "pipeline.collector_memory": 14,
        "pipeline.prometheus_series": 15,
        "pipeline.prometheus_samples": 16,
        "pipeline.prometheus_rejected": 17,
        "pipeline.rules": 18,
        "pipeline.loki_bytes": 19,
        "pipeline.loki_discarded": 20,
        "pipeline.loki_latency": 21,
        "pipeline.engine_memory": 22,
        "pipeline.disk": 23,
        "pipeline.cpu": 24,
        "pipeline.memory": 25,
        "pipeline.storage": 26,
        "pipeline.notices": 27,
        "pipeline.scrapes": 28,
        "pipeline.relay_connections": 29,
        "pipeline.relay_refused": 30,
    },
}

PANELS: dict[str, tuple[str, int]] = {
    name: (uid, number) for uid, numbers in _IDS.items() for name, number in numbers.items()
}
"""Each panel by its name: (dashboard uid, panel id), for links such as
``/d/<uid>?viewPanel=<id>``."""
