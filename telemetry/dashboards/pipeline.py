"""Pipeline health: the Collector, Prometheus, Loki, and the machine they run on."""

from __future__ import annotations

from telemetry.dashboards import pipeline_queries as queries
from telemetry.dashboards.dashboard import Band, Dashboard, link
from telemetry.dashboards.panel_ids import OVERVIEW, PIPELINE
from telemetry.dashboards.panels import lines, panel, stat, timeline
from telemetry.dashboards.style import (
    ANSWERING,
    ANY_IS_RED,
    GREEN,
    NEUTRAL,
    ORANGE,
    RED,
    Scale,
    fixed,
    override,
    override_like,
)
from telemetry.dashboards.targets import Target


def build() -> Dashboard:
    """Declare the dashboard."""
    return Dashboard(
        PIPELINE,
        "Pipeline health",
        "Does telemetry arrive complete and in time? The Collector, Prometheus, Loki, and the "
        "machine they run on.",
        [_now(), _loss(), _collector(), _relay(), _prometheus(), _loki(), _host()],
        links=[link("Overview", OVERVIEW, "All containers")],
        events=False,
    )


def _now() -> Band:
    loss = panel(
        "pipeline.loss_count",
        "Lost",
        "Items refused, dropped or not delivered in the last 10 minutes, from apps to stores. "
        "Any fires an alert.",
        stat(Target(queries.LOSS_COUNT), scale=Scale(steps=ANY_IS_RED, decimals=0)),
    )
    down = panel(
        "pipeline.targets_down",
        "Not answering",
        "Services and components that should run but don't answer Prometheus' scrapes.",
        stat(Target(queries.TARGETS_DOWN, instant=True), scale=Scale(steps=ANY_IS_RED, decimals=0)),
    )
    filling = ((0, GREEN), (0.5, ORANGE), (0.8, RED))
    queue = panel(
        "pipeline.queue_now",
        "Fullest queue",
        "The fullest of the Collector's queues on disk. A queue fills while a store is down; "
        "when it is full, senders are blocked.",
        stat(
            Target(queries.QUEUE_FILL_NOW),
            scale=Scale("percentunit", filling, least=0, most=1, decimals=0),
        ),
    )
    old = ((0, GREEN), (30, ORANGE), (120, RED))
    age = panel(
        "pipeline.age_now",
        "Longest silence",
        "Time since Prometheus received a sample of the service that has been silent the longest.",
        stat(Target(queries.AGE_NOW), scale=Scale("s", old, least=0, decimals=0)),
    )
    used = ((0, GREEN), (0.75, ORANGE), (0.85, RED))
    disk = panel(
        "pipeline.disk_now",
        "Fullest disk",
        "Used share of the space that ordinary users can use. An alert fires above 85 %.",
        stat(
            Target(queries.DISK_NOW), scale=Scale("percentunit", used, least=0, most=1, decimals=0)
        ),
    )
    tight = ((0, GREEN), (0.8, ORANGE), (0.95, RED))
    memory = panel(
        "pipeline.memory_now",
        "Host memory",
        "Used share of the machine's memory.",
        stat(
            Target(queries.MEMORY_NOW),
            scale=Scale("percentunit", tight, least=0, most=1, decimals=0),
        ),
    )
    return Band(4, [loss, down, queue, age, disk, memory])


def _loss() -> Band:
    loss = panel(
        "pipeline.loss",
        "Refused, dropped, undelivered",
        "Items lost within the previous 10 minutes, by counter and job: in apps, in the "
        "Collector, in stores, and on the way to people. Any fires an alert.",
        lines(
            Target(queries.LOSS, "{{job}} {{metric}}"),
            scale=Scale(least=0, decimals=0, empty="nothing lost"),
        ),
    )
    dropped = panel(
        "pipeline.dropped",
        "Dropped in the apps",
        "Items that the library dropped within the previous 5 minutes, by signal and reason; and "
        "interaction log lines that could not be written.",
        lines(
            Target(queries.DROPPED, "{{job}} {{signal}} {{reason}}"),
            Target(queries.INTERACTION_FAILURES, "interaction log {{reason}}"),
            scale=Scale(least=0, decimals=0),
        ),
    )
    up = panel(
        "pipeline.up",
        "Answering",
        "Whether services and components that should run answer Prometheus' scrapes.",
        timeline(
            Target(queries.TARGETS, "{{at}} {{job}}"),
            scale=Scale(steps=((0, RED), (1, GREEN)), texts=ANSWERING, decimals=0),
        ),
    )
    return Band(8, [loss, dropped, up])


def _collector() -> Band:
    accepted = panel(
        "pipeline.accepted",
        "Accepted",
        "Metric points and log records per second, by receiver.",
        lines(Target(queries.ACCEPTED, "{{receiver}} {{kind}}"), scale=Scale("ops", least=0)),
    )
    sent = panel(
        "pipeline.sent",
        "Sent",
        "Metric points and log records per second, by exporter. The queue grows if less is sent "
        "than accepted.",
        lines(Target(queries.SENT, "{{exporter}} {{kind}}"), scale=Scale("ops", least=0)),
    )
    queue = panel(
        "pipeline.queue",
        "Queues",
        "How full each exporter's queue on disk is. An alert fires above 80 %.",
        lines(
            Target(queries.QUEUE_FILL, "{{exporter}}"),
            scale=Scale("percentunit", ((0, GREEN), (0.8, ORANGE)), least=0, most=1),
            limits=True,
        ),
    )
    age = panel(
        "pipeline.age",
        "Delay",
        "Time since Prometheus received each service's newest sample; normally about the export "
        "interval.",
        lines(Target(queries.AGE, "{{job}}"), scale=Scale("s", least=0)),
    )
    memory = panel(
        "pipeline.collector_memory",
        "Memory",
        "Resident memory of the Collector. Near its limit it refuses data.",
        lines(Target(queries.COLLECTOR_MEMORY, "{{job}}"), scale=Scale("bytes", least=0)),
    )
    shown = [accepted, sent, queue, age, memory]
    return Band(7, shown, widths=[5, 5, 5, 5, 4], title="Collector")


def _relay() -> Band:
    connections = panel(
        "pipeline.relay_connections",
        "Containers' connections",
        "Connections of containers to the platform's relay, and those closed at once within the "
        "previous 5 minutes because of a limit.",
        lines(
            Target(queries.RELAY_CONNECTIONS, "open"),
            Target(queries.RELAY_CLOSED, "closed: {{reason}}"),
            scale=Scale(least=0, decimals=0, empty="no platform"),
        ),
    )
    refused = panel(
        "pipeline.relay_refused",
        "Containers over a limit",
        "Telemetry requests that the relay refused within the previous 5 minutes, and metric "
        "points that it dropped because the container has too many series.",
        lines(
            Target(queries.RELAY_REFUSED, "{{handle}} refused: {{reason}}"),
            Target(queries.RELAY_DROPPED, "{{handle}} dropped points"),
            scale=Scale(least=0, decimals=0, empty="none"),
        ),
    )
    return Band(7, [connections, refused], title="Relay")


def _prometheus() -> Band:
    series = panel(
        "pipeline.prometheus_series",
        "Series",
        "Series in memory. Steady growth means a label with too many values.",
        lines(Target(queries.SERIES, "series"), scale=Scale(least=0)),
    )
    samples = panel(
        "pipeline.prometheus_samples",
        "Samples",
        "Samples stored per second.",
        lines(Target(queries.SAMPLES, "{{type}}"), scale=Scale("ops", least=0)),
    )
    rejected = panel(
        "pipeline.prometheus_rejected",
        "Rejected samples",
        "Samples rejected per second, by reason: too late or out of order.",
        lines(Target(queries.REJECTED, "{{reason}}"), scale=Scale("ops", least=0)),
    )
    rules = panel(
        "pipeline.rules",
        "Alert rules",
        "Failed evaluations per second, and the duration of the slowest rule group (right axis). "
        "Empty if Grafana evaluates the rules.",
        lines(
            Target(queries.RULE_FAILURES, "failures"),
            Target(queries.RULE_DURATION, "slowest group"),
            scale=Scale("ops", least=0, empty="Grafana evaluates"),
            overrides=[override("slowest group", unit="s", custom__axisPlacement="right")],
        ),
    )
    storage = panel(
        "pipeline.storage",
        "Storage",
        "Bytes on disk: blocks, head, write-ahead log.",
        lines(
            Target(queries.STORAGE_BLOCKS, "blocks"),
            Target(queries.STORAGE_HEAD, "head"),
            Target(queries.STORAGE_WAL, "write-ahead log"),
            scale=Scale("bytes", least=0),
            stacked=True,
        ),
    )
    scrapes = panel(
        "pipeline.scrapes",
        "Scrape duration",
        "Duration of the slowest scrape of each job.",
        lines(Target(queries.SCRAPE_DURATION, "{{job}}"), scale=Scale("s", least=0)),
    )
    return Band(7, [series, samples, rejected, rules, storage, scrapes], title="Prometheus")


def _loki() -> Band:
    received = panel(
        "pipeline.loki_bytes",
        "Logs received",
        "Bytes per second, and lines per second (right axis).",
        lines(
            Target(queries.LOKI_BYTES, "bytes"),
            Target(queries.LOKI_LINES, "lines"),
            scale=Scale("Bps", least=0),
            overrides=[override("lines", unit="ops", custom__axisPlacement="right")],
        ),
    )
    discarded = panel(
        "pipeline.loki_discarded",
        "Discarded lines",
        "Lines discarded per second, by reason.",
        lines(
            Target(queries.LOKI_DISCARDED, "{{reason}}"),
            scale=Scale("ops", least=0, empty="none discarded"),
        ),
    )
    latency = panel(
        "pipeline.loki_latency",
        "Request duration",
        "95th percentile of the duration of Loki's requests, by route.",
        lines(Target(queries.LOKI_P95, "{{route}}"), scale=Scale("s", least=0)),
    )
    memory = panel(
        "pipeline.engine_memory",
        "Component memory",
        "Resident memory of Prometheus, Loki, and Alertmanager or Grafana.",
        lines(Target(queries.ENGINE_MEMORY, "{{job}}"), scale=Scale("bytes", least=0)),
    )
    notices = panel(
        "pipeline.notices",
        "Notifications",
        "Notifications sent per minute by channel, and failed ones, from Alertmanager, or from "
        "Grafana if it evaluates (9.4 doesn't count them).",
        lines(
            Target(queries.NOTIFIED, "{{integration}}"),
            Target(queries.NOTIFY_FAILED, "{{integration}} failed"),
            scale=Scale("opm", least=0, empty="none counted"),
            overrides=[override_like("/ failed$/", color=fixed(RED))],
        ),
    )
    shown = [received, discarded, latency, memory, notices]
    return Band(7, shown, widths=[5, 5, 5, 5, 4], title="Loki and Alertmanager")


def _host() -> Band:
    cpu = panel(
        "pipeline.cpu",
        "CPU",
        "Share of all cores, by state.",
        lines(
            Target(queries.CPU, "{{instance}} {{state}}"),
            scale=Scale("percentunit", NEUTRAL, least=0, most=1),
            stacked=True,
        ),
    )
    memory = panel(
        "pipeline.memory",
        "Memory",
        "Memory by use.",
        lines(
            Target(queries.MEMORY, "{{instance}} {{state}}"),
            scale=Scale("bytes", NEUTRAL, least=0),
            stacked=True,
        ),
    )
    disk = panel(
        "pipeline.disk",
        "Disk",
        "Used share of the space that ordinary users can use, by file system. An alert fires "
        "above 85 %, or if it will be full within 24 hours at the current rate.",
        lines(
            Target(queries.DISK, "{{instance}} {{mountpoint}}"),
            scale=Scale("percentunit", ((0, GREEN), (0.85, ORANGE)), least=0, most=1),
            limits=True,
        ),
    )
    return Band(8, [cpu, memory, disk], title="Host")
