"""PromQL that rules and dashboards share."""
