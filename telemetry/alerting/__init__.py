"""Alert rules as data, and what notifies people of them.

Rules stand once, in ``rules/``; ``provision`` renders them for who evaluates: Grafana, or
Prometheus and Loki with Alertmanager.
"""

from telemetry.alerting.delivery import notify_directly
from telemetry.alerting.render.write import Mode, check, grafana_environment, provision

__all__ = ["Mode", "check", "grafana_environment", "notify_directly", "provision"]
