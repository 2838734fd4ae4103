"""Parse PromQL: the metric and labels of each selector, and the labels of aggregations."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import promql_parser as parser


@dataclass(frozen=True)
class Selector:
    """A selector of an expression.

    Args:
        name: the metric's name, "" if it is selected by a pattern.
        pattern: the regular expression for the name, "" if there is a name.
        labels: labels with a matcher.
    """

    name: str
    pattern: str
    labels: frozenset[str]


def selectors(expression: str) -> list[Selector]:
    """List the selectors of ``expression``, in its order."""
    return [
        _selector(node) for node in _nodes(parser.parse(expression)) if _is(node, "VectorSelector")
    ]


def grouped(expression: str) -> set[str]:
    """List the labels that ``expression`` groups or joins by."""
    found: set[str] = set()
    for node in _nodes(parser.parse(expression)):
        if _is(node, "AggregateExpr") and node.modifier is not None:
            found |= set(node.modifier.labels)
        if _is(node, "BinaryExpr") and node.modifier is not None:
            if node.modifier.matching is not None:
                found |= set(node.modifier.matching.labels)
            found |= set(node.modifier.group_labels or ())
    return found


def made(expression: str) -> set[str]:
    """List the labels that ``expression`` adds, by label_replace or label_join."""
    return {
        node.args[1].val
        for node in _nodes(parser.parse(expression))
        if _is(node, "Call") and node.func.name in ("label_replace", "label_join")
    }


def legend_labels(legend: str) -> set[str]:
    """List the labels of a legend such as ``{{job}} 5xx``."""
    return set(re.findall(r"\{\{\s*(\w+)\s*\}\}", legend))


def _is(node: Any, kind: str) -> bool:
    return type(node).__name__ == kind


def _nodes(node: Any) -> Iterator[Any]:
    yield node
    for name in ("expr", "param", "lhs", "rhs", "vector_selector"):
        child = getattr(node, name, None)
        if isinstance(child, parser.Expr):
            yield from _nodes(child)
    for child in getattr(node, "args", ()):
        yield from _nodes(child)


def _selector(node: Any) -> Selector:
    matchers = node.matchers.matchers
    pattern = next((m.value for m in matchers if m.name == "__name__"), "")
    labels = frozenset(m.name for m in matchers if m.name != "__name__")
    return Selector(node.name or "", pattern, labels)
