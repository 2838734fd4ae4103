"""The relay: containers' only way to the Collector and the proxy, within limits."""
