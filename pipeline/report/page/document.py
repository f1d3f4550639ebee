"""The page as one file: data, script and style in one HTML document that asks nothing of any network.

What draws lies in ``assets/``: plain JavaScript and CSS, joined here in the order of a template. The document's
Content-Security-Policy allows the joined script and style by their SHA-256 and pictures
that stand in the page, else nothing.
"""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources

ASSETS = "assets"


@dataclass(frozen=True)
class Template:
    """The files of ``assets/`` that a page is made of, in the order in which they are joined."""

    scripts: tuple[str, ...]
    styles: tuple[str, ...]


SHARED = Template(
    scripts=("dom.js", "words.js", "data.js", "media.js", "text.js", "chart.js", "curves.js", "matrix.js", "theme.js"),
    styles=("base.css", "parts.css"),
)
"""What every page uses: elements, numbers in words, pictures and texts of examples, charts."""

REPORT = Template(
    scripts=(
        *SHARED.scripts,
        "state.js",
        "story.js",
        "search.js",
        "browser.js",
        "cards.js",
        "rows.js",
        "input.js",
        "drawer.js",
        "decisions.js",
        "labels.js",
        "evidence.js",
        "whole.js",
        "panels.js",
        "geometry.js",
        "both_labels.js",
        "keys.js",
        "main.js",
    ),
    styles=(*SHARED.styles, "sections.css", "narrow.css"),
)
"""The whole report. A page of one input is the same with less data: a part without data is not drawn."""

_HTML = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<link rel="icon" href="data:,">
<style>{style}</style>
</head>
<body>
<noscript>This page is drawn by the script that it carries. It is shown where scripts are allowed.</noscript>
<script type="application/json" id="page-data">{data}</script>
<script>{script}</script>
</body>
</html>
"""


def document(data: Mapping[str, object], *, title: str, template: Template = REPORT) -> str:
    """Return one HTML file that shows ``data`` by a template's files.

    ``data`` becomes JSON; a NaN or an infinity in it raises ValueError, since JSON has neither.
    """
    script = _wrapped(_joined(template.scripts))
    style = _joined(template.styles)
    return _HTML.format(
        policy=_policy(script, style), title=escape(title), style=style, data=_json(data), script=script
    )


def _joined(names: Sequence[str]) -> str:
    folder = resources.files(__package__) / ASSETS
    return "\n".join((folder / name).read_text(encoding="utf-8").strip() for name in names)


def _wrapped(script: str) -> str:
    """Return the script in a scope of its own, in which its files see one another."""
    return f'(() => {{\n"use strict";\n{script}\n}})();'


def _policy(script: str, style: str) -> str:
    return (
        f"default-src 'none'; script-src '{_digest(script)}'; style-src '{_digest(style)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _json(data: Mapping[str, object]) -> str:
    """Return data as JSON that can stand inside a script element: nothing in it opens or closes a tag or a comment."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")
