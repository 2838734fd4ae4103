"""The public functions and the one pipeline behind them."""

from __future__ import annotations

import subprocess
import sys
import typing

import pytest

import telemetry
from telemetry.metrics.derived import NamespacedHTTP
from telemetry.metrics.points import HistogramValue, Point

QUIET = {"OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none"}


@pytest.mark.usefixtures("recorded")
def test_process_has_one_pipeline_named_by_the_first_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert telemetry.current_pipeline() is None
    assert telemetry.flush()
    assert telemetry.flush_metrics()
    first = telemetry.start(service_name="shop")
    telemetry.instrument(None, service_name="other")
    assert telemetry.current_pipeline() is first
    telemetry.shutdown()
    assert telemetry.current_pipeline() is None
    assert telemetry.start() is not first


def test_an_instrumented_app_keeps_its_type_for_a_type_checker() -> None:
    hints = typing.get_type_hints(telemetry.instrument)
    assert hints["return"] is hints["app"]
    assert isinstance(hints["app"], typing.TypeVar)


def test_public_names_exist_and_their_import_loads_no_heavy_package() -> None:
    assert telemetry.__all__ == sorted(telemetry.__all__, key=lambda n: (n[0].islower(), n))
    assert all(hasattr(telemetry, name) for name in telemetry.__all__)
    heavy = ("starlette", "fastapi", "django", "sqlalchemy", "docker", "grpc", "yaml")
    code = (
        "import sys, telemetry; telemetry.instrument(None); "
        f"print([m for m in {heavy} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_namespaced_view_sums_over_labels_that_it_drops() -> None:
    from telemetry import catalog

    def point(error: str, status: str, route: str, quick: int, slow: int) -> Point:
        buckets = [0.0] * 15
        buckets[0], buckets[14] = quick, slow  # within 5 ms, and above 10 s
        given = {
            "http.request.method": "GET",
            "http.route": route,
            "http.response.status_code": status,
            "error.type": error,
        }
        labels = {k: v for k, v in given.items() if v}
        value = HistogramValue(1.0, buckets)
        return Point(catalog.HTTP_SERVER_REQUEST_DURATION, labels, value, 7)

    points = NamespacedHTTP("gateway")(
        [
            point("", "200", "/a", 3, 1),
            point("ValueError", "200", "/a", 1, 0),
            point("client_disconnected", "", "/a", 0, 1),
            point("", "404", "", 2, 0),
        ]
    )
    assert {
        (p.metric.prometheus, *sorted(dict(p.attributes).items())): p.value for p in points
    } == {
        ("gateway_http_requests_total", ("method", "GET"), ("path", "/a"), ("status", "200")): 5,
        ("gateway_http_requests_total", ("method", "GET"), ("path", "/a"), ("status", "499")): 1,
        (
            "gateway_http_requests_total",
            ("method", "GET"),
            ("path", "unmatched"),
            ("status", "404"),
        ): 2,
        ("gateway_http_request_duration_seconds", ("method", "GET"), ("path", "/a")): (
            HistogramValue(3.0, [4, 0, 0, 0, 0, 0, 0, 2])
        ),
        ("gateway_http_request_duration_seconds", ("method", "GET"), ("path", "unmatched")): (
            HistogramValue(1.0, [2, 0, 0, 0, 0, 0, 0, 0])
        ),
    }
    assert {p.start_time_ns for p in points} == {7}


def test_namespaced_view_of_no_points_is_empty() -> None:
    assert NamespacedHTTP("shop")([]) == []
