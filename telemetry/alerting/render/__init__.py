"""Render alert rules, routes and channels as each evaluator's files."""
