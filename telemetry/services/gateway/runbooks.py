"""Render the runbooks as the page ``/runbooks`` that notices link to."""

from __future__ import annotations

from itertools import pairwise

from markdown_it import MarkdownIt

from telemetry.system import packaged_files

_PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Runbooks</title>
<style>
body {{ font: 1rem/1.5 system-ui, sans-serif; max-width: 46rem; margin: 0 auto; padding: 1rem }}
h2 {{ border-top: 1px solid #8886; padding-top: 1rem; scroll-margin-top: 1rem }}
h2:target {{ border-top: 3px solid #c62828 }}
code {{ background: #8882; padding: .1em .3em; border-radius: .2em; overflow-wrap: anywhere }}
table {{ border-collapse: collapse; display: block; overflow-x: auto }}
td, th {{ border: 1px solid #8886; padding: .3rem .6rem; text-align: left }}
</style>
</head>
<body>
{body}</body>
</html>
"""


def page() -> str:
    """Render ``docs/runbooks.md`` as HTML; the id of each alert's heading is its name in lower
    case.
    """
    markdown = MarkdownIt("commonmark").enable("table")
    text = packaged_files.path("docs/runbooks.md").read_text(encoding="utf-8")
    tokens = markdown.parse(text)
    for heading, content in pairwise(tokens):
        if heading.type == "heading_open":
            heading.attrSet("id", content.content.lower())
    return _PAGE.format(body=markdown.renderer.render(tokens, markdown.options, {}))
