"""Desired and observed state."""
