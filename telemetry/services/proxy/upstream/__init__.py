"""The providers and their wires."""
