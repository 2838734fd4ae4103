"""ASGI middleware: requests, WebSockets, routes."""
