"""Logs of followed containers."""
