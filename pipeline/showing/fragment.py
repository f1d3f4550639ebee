"""An explanation as a piece of HTML for a notebook: self-contained, without script, escaped, in light and dark."""

import base64
import io
from collections.abc import Iterable, Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from relatif.pipeline.showing.shown import (
    NOT_BY_TOKEN,
    Media,
    Shown,
    ShownExample,
    ShownMethod,
    amount,
    fits_sharply,
    label_text,
    largest,
    number,
    probability,
)

EDGE, LARGEST = 96, 256
"""Pixels of the screen that the longer side of a picture has at least, and pixels of a picture that are kept."""

LONGEST_TEXT, CELLS, PARTS, STRONGEST = 600, 8, 6, 0.55

STYLE = """
.relatif { --ink: #17181a; --quiet: #5c6066; --paper: #ffffff; --line: #d9dbde; --help: 0, 114, 178; --harm: 213, 94, 0;
  --doubt: #7a5200; color: var(--ink); background: var(--paper); font: 14px/20px system-ui, sans-serif; padding: 12px;
  max-width: 1100px; }
@media (prefers-color-scheme: dark) { .relatif { --ink: #ededeb; --quiet: #a9adb3; --paper: #131416; --line: #3a3d42;
  --help: 86, 180, 233; --harm: 240, 140, 70; --doubt: #e6b450; } }
[data-jp-theme-light="true"] .relatif { --ink: #17181a; --quiet: #5c6066; --paper: #ffffff; --line: #d9dbde;
  --help: 0, 114, 178; --harm: 213, 94, 0; --doubt: #7a5200; }
[data-jp-theme-light="false"] .relatif { --ink: #ededeb; --quiet: #a9adb3; --paper: #131416; --line: #3a3d42;
  --help: 86, 180, 233; --harm: 240, 140, 70; --doubt: #e6b450; }
.relatif * { box-sizing: border-box; }
.relatif .title { font-weight: 600; font-size: 16px; line-height: 24px; }
.relatif .name { font-weight: 600; margin: 16px 0 8px; }
.relatif .quiet, .relatif dt { color: var(--quiet); }
.relatif .input { display: flex; gap: 16px; margin-top: 8px; flex-wrap: wrap; align-items: flex-start; }
.relatif dl { display: grid; grid-template-columns: fit-content(60%) 1fr; gap: 0 12px; margin: 0; }
.relatif dt, .relatif dd { margin: 0; overflow-wrap: anywhere; font-weight: 400; }
.relatif ol { list-style: none; display: grid; grid-template-columns: repeat(auto-fill, minmax(165px, 1fr)); gap: 8px;
  margin: 0; padding: 0; }
.relatif.wide ol { grid-template-columns: repeat(auto-fill, minmax(min(260px, 100%), 1fr)); }
.relatif li { border: 1px solid var(--line); border-radius: 4px; padding: 8px; margin: 0; min-width: 0;
  font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
.relatif img { display: block; margin: 0 0 4px; max-width: 100%; border: 1px solid var(--line); }
.relatif img.sharp { image-rendering: pixelated; }
.relatif .doubt { color: var(--doubt); }
.relatif .text { white-space: pre-wrap; overflow-wrap: anywhere; margin: 0 0 4px; }
.relatif .input > div { min-width: 0; max-width: 100%; }
.relatif .title { overflow-wrap: anywhere; }
.relatif mark { color: inherit; border-radius: 2px; }
.relatif mark.harm { text-decoration: underline dotted; }
.relatif details { margin: 8px 0 0; }
.relatif summary { cursor: pointer; color: var(--quiet); }
.relatif details ol { margin-top: 8px; }
""".strip()


def html_of(shown: Shown) -> str:
    """Return an explanation as HTML: no script, no address, all text escaped."""
    return documents([shown])


def documents(every: Sequence[Shown]) -> str:
    """Return several explanations below one another, with one style."""
    return f"<style>{STYLE}</style>{''.join(map(_explanation, every))}"


def _explanation(shown: Shown) -> str:
    wide = any(each.media.picture is None for method in shown.methods for each in method.helps)
    facts = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in shown.facts if value)
    notes = "".join(f'<div class="quiet">{escape(note)}</div>' for note in shown.notes)
    head = (
        f'<div class="title">{escape(shown.told)}</div><div class="input"><div>{_media(shown.media, shown.told)}</div>'
        f"<div><dl>{facts}</dl>{notes}</div></div>"
    )
    methods = "".join(_method(shown, method) for method in shown.methods)
    foot = f'<div class="quiet" style="margin-top: 12px">{escape(shown.meaning)}</div>'
    return f'<div class="relatif{" wide" if wide else ""}">{head}{methods}{foot}</div>'


def _method(shown: Shown, method: ShownMethod) -> str:
    found = f'<div class="name">{escape(method.title)}</div>{_cards(shown, method.helps)}'
    if not method.harms:
        return found
    word = "example that harms" if len(method.harms) == 1 else "examples that harm"
    return f"{found}<details><summary>{len(method.harms)} {word}</summary>{_cards(shown, method.harms)}</details>"


def _cards(shown: Shown, examples: Iterable[ShownExample]) -> str:
    return f"<ol>{''.join(_card(shown, each) for each in examples)}</ol>"


def _card(shown: Shown, example: ShownExample) -> str:
    label = label_text(example)
    of_label = probability(example.probability)
    lines = [
        f'<div class="{"doubt" if example.predicted is not None else ""}">{escape(label)}</div>' if label else "",
        _line("effect", amount(example.effect, shown.unit)),
        _line("corrected", amount(example.corrected, shown.unit)),
        _line("score", number(example.score)),
        _line("probability", of_label),
        _parts(shown, example),
    ]
    media = _marked(example) if shown.by == "token" else _media(example.media, f"training example {example.index}")
    return f'<li>{media}<div class="quiet">{example.rank} · no. {escape(example.name)}</div>{"".join(lines)}</li>'


def _line(name: str, value: str) -> str:
    return f'<div><span class="quiet">{name}</span> {escape(value)}</div>' if value else ""


def _parts(shown: Shown, example: ShownExample) -> str:
    """Return the parts by layer in words; of tokens only what belongs to none, as the text is marked."""
    rest = [(NOT_BY_TOKEN, example.rest)] if example.rest is not None else []
    layers = largest(example.parts, PARTS) if len(example.parts) > 1 else []
    listed = layers if shown.by == "layer" else rest
    return "".join(_line(name, amount(value, "")) for name, value in listed)


def _marked(example: ShownExample) -> str:
    """Return the tokens, each on a colour as strong as its part."""
    if not example.parts:
        return _media(example.media, f"training example {example.index}")
    most = max(abs(value) for _, value in example.parts) or 1.0
    marks = "".join(
        f'<mark class="{side}" title="{escape(amount(value, ""))}" '
        f'style="background: rgba(var(--{side}), {STRONGEST * abs(value) / most:.2f})">{escape(text)}</mark>'
        for text, value in example.parts
        for side in ("help" if value >= 0 else "harm",)
    )
    return f'<div class="text">{marks}</div>'


def _media(media: Media, alt: str) -> str:
    found = []
    if media.picture is not None:
        found.append(_image(media.picture, alt))
    if media.text is not None:
        cut = media.text if len(media.text) <= LONGEST_TEXT else f"{media.text[:LONGEST_TEXT]}…"
        found.append(f'<div class="text">{escape(cut)}</div>')
    if media.row is not None:
        cells = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in media.row[:CELLS])
        more = f'<div class="quiet">{len(media.row) - CELLS} more columns</div>' if media.row[CELLS:] else ""
        found.append(f"<dl>{cells}</dl>{more}")
    return "".join(found)


def _image(picture: NDArray[np.uint8], alt: str) -> str:
    image = Image.fromarray(picture)
    image.thumbnail((LARGEST, LARGEST))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    data = base64.b64encode(buffer.getvalue()).decode()
    times = max(1, -(-EDGE // max(image.size)))
    sharp = ' class="sharp"' if fits_sharply(picture) else ""
    size = f'width="{times * image.width}" height="{times * image.height}"'
    return f'<img{sharp} {size} alt="{escape(alt)}" src="data:image/png;base64,{data}">'
