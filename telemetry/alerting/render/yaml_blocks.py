"""YAML in this project's format: stable order, multi-line texts as blocks."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import yaml


@cache
def _dumper() -> type[yaml.SafeDumper]:
    import yaml  # installed with the extra `stack`; `telemetry --help` works without it

    class Dumper(yaml.SafeDumper):
        def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
            # Indent list items below their key: easier to read and to comment out.
            super().increase_indent(flow, False)

    def text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
        style = "|" if "\n" in text else None
        return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)

    Dumper.add_representer(str, text)
    return Dumper


def dump(document: Any, *, head: str) -> str:
    """Format ``document`` as YAML.

    Args:
        document: dicts, lists, strings, numbers.
        head: comment lines for the top of the file, without ``#``.
    """
    import yaml

    comment = "".join(f"# {line}\n" for line in head.splitlines())
    body = yaml.dump(document, Dumper=_dumper(), sort_keys=False, width=1000, allow_unicode=True)
    return comment + body
