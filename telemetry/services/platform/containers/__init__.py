"""Containers: created, stopped, removed."""
