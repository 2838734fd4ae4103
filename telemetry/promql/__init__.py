"""PromQL that alert rules and dashboards share."""
