"""Alert rules as data, and what notifies people of them.

Rules stand once, in ``rules/``; ``provision`` renders them for who evaluates: Grafana, or
Prometheus and Loki with Alertmanager.
"""

from telemetry.alerting.delivery import notify_directly
from telemetry.alerting.render.write import Mode, provision
from telemetry.alerting.settings import AlertSettings

__all__ = ["AlertSettings", "Mode", "notify_directly", "provision"]
