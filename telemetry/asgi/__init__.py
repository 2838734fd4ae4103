"""ASGI middleware for requests, WebSockets and routes."""
