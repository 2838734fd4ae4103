"""Capture, conversion and export of log records."""
