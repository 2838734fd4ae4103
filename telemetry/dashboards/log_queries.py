"""LogQL of the panels.

Streams have the labels service_name, handle and level. The Collector gives every source the same
levels: trace, debug, info, warn, error, fatal.
"""

from __future__ import annotations

_SELECTED = 'service_name=~"$service", handle=~"$handle"'
_ERRORS = 'level=~"error|fatal"'
# Back quotes allow quotation marks in a search. `raw` keeps Grafana from escaping apostrophes.
# \Q and \E quote the words literally: a bracket pasted from a line would be an invalid pattern.
# An empty search matches every line.
_SEARCH = "|~ `(?i)\\Q${search:raw}\\E` | trace_id=~`${trace_id:raw}.*`"

ALL_ERRORS = f'{{service_name=~".+", {_ERRORS}}}'
# "All" means all containers, without processes outside of containers.
_INSIDE = 'service_name=~".+", handle=~"$handle", handle!=""'
CONTAINER_LINES = f"{{{_INSIDE}}}"
CONTAINER_ERROR_COUNT = f"sum(count_over_time({{{_INSIDE}, {_ERRORS}}} [$__range])) or vector(0)"
LINES = f'{{{_SELECTED}, level=~"$level"}} {_SEARCH}'
LINE_COUNT = f"sum(count_over_time({LINES} [$__range])) or vector(0)"
ERROR_COUNT = f"sum(count_over_time({{{_SELECTED}, {_ERRORS}}} {_SEARCH} [$__range])) or vector(0)"
VOLUME = f"sum by (level) (count_over_time({LINES} [$__interval]))"
ERRORS = f"sum by (service_name, handle) (count_over_time({{{_SELECTED}, {_ERRORS}}} [5m]))"
NOISIEST = f"topk(20, sum by (service_name, handle) (count_over_time({LINES} [$__range])))"
