"""The three services: gateway, platform, proxy. Each is a product of its own."""
