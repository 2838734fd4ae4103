"""The GenAI semantic conventions' metrics of the calls this process makes.

Source: https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-metrics/
"""

from __future__ import annotations

from telemetry import catalog, metrics
from telemetry.services.proxy.pricing.usage import Tokens

_OPERATIONS = {"embeddings": "embeddings"}


class GenAIMetrics:
    """Series bound once per operation, provider and model."""

    def __init__(self) -> None:
        self._usage = metrics.histogram(catalog.GEN_AI_CLIENT_TOKEN_USAGE)
        self._duration = metrics.histogram(catalog.GEN_AI_CLIENT_OPERATION_DURATION)
        self._first = metrics.histogram(catalog.GEN_AI_SERVER_TIME_TO_FIRST_TOKEN)
        self._pace = metrics.histogram(catalog.GEN_AI_SERVER_TIME_PER_OUTPUT_TOKEN)
        self._errors = metrics.counter(catalog.PROXY_UPSTREAM_ERRORS)
        self._bound: dict[tuple[str, str, str, str], tuple[metrics.BoundHistogram, ...]] = {}

    def error(self, provider: str, kind: str) -> None:
        """Count a failure at a provider."""
        self._errors.add(1, {"provider": provider, "kind": kind})

    def record(
        self,
        endpoint: str,
        provider: str,
        model: str,
        error_type: str,
        duration_s: float,
        tokens: Tokens | None,
        first_s: float | None,
    ) -> None:
        """Record one call.

        Args:
            endpoint: e.g. ``messages``.
            provider: the upstream's name.
            model: as metrics show it.
            error_type: ``""`` for success.
            duration_s: from request to end of answer.
            tokens: what the provider reported; None if it reported nothing.
            first_s: from request to the first streamed bytes; None if not streamed.
        """
        key = (endpoint, provider, model, error_type)
        bound = self._bound.get(key)
        if bound is None:
            bound = self._bound[key] = self._bind(*key)
        used_in, used_out, duration, first, pace = bound
        duration.record(duration_s)
        if tokens is not None:
            used_in.record(tokens.input_total)
            if tokens.output:
                used_out.record(tokens.output)
        if first_s is not None:
            first.record(first_s)
            if tokens is not None and tokens.output > 1:
                pace.record((duration_s - first_s) / (tokens.output - 1))

    def _bind(
        self, endpoint: str, provider: str, model: str, error_type: str
    ) -> tuple[metrics.BoundHistogram, ...]:
        common = {
            "gen_ai.operation.name": _OPERATIONS.get(endpoint, "chat"),
            "gen_ai.provider.name": provider,
            "gen_ai.request.model": model,
        }
        failed = {**common, "error.type": error_type} if error_type else common
        return (
            self._usage.bind({**common, "gen_ai.token.type": "input"}),
            self._usage.bind({**common, "gen_ai.token.type": "output"}),
            self._duration.bind(failed),
            self._first.bind(common),
            self._pace.bind(common),
        )
