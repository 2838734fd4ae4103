"""What the panels ask Loki.

Streams are labelled by service_name and handle; the severity that a record came with is
``detected_level``, the same name that Loki gives it whatever the collector made an index label.
"""

from __future__ import annotations

_ALL = '{service_name=~".+"}'
_SELECTED = '{service_name=~"$service", handle=~"$handle"}'
_ERRORS = 'detected_level=~"error|critical|fatal"'
# Back quotes, so that a search may hold quotation marks. An empty search matches every line.
_SEARCH = "|~ `(?i)$search` | trace_id=~`$trace_id.*`"
_LEVEL = "| detected_level=~`$level`"

ALL_ERRORS = f"{_ALL} | {_ERRORS}"
CONTAINER_LINES = '{service_name=~".+", handle=~"$handle"}'
CONTAINER_ERROR_COUNT = (
    f"sum(count_over_time({CONTAINER_LINES} | {_ERRORS} [$__range])) or vector(0)"
)
LINES = f"{_SELECTED} {_SEARCH} {_LEVEL}"
LINE_COUNT = f"sum(count_over_time({LINES} [$__range])) or vector(0)"
ERROR_COUNT = f"sum(count_over_time({_SELECTED} {_SEARCH} | {_ERRORS} [$__range])) or vector(0)"
VOLUME = f"sum by (detected_level) (count_over_time({LINES} [$__interval]))"
ERRORS = f"sum by (service_name, handle) (count_over_time({_SELECTED} | {_ERRORS} [5m]))"
NOISIEST = f"topk(20, sum by (service_name, handle) (count_over_time({LINES} [$__range])))"
