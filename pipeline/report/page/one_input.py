"""The page of one input that ``relatif explain`` was asked for: the report's own document with one explanation.

Axes: K ranks, P positions of the page.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from relatif.pipeline import inputs as batches
from relatif.pipeline.explaining.explanation import Explanation
from relatif.pipeline.explaining.helpers import Helper
from relatif.pipeline.explaining.media import media_of, media_of_rows
from relatif.pipeline.explaining.one_query import LAYER
from relatif.pipeline.explaining.query import TEST
from relatif.pipeline.explaining.shown_query import HARMS, HELPS, PartTexts, part_texts
from relatif.pipeline.report.page import about
from relatif.pipeline.report.page.columns import Positions, rounded, rounded_number
from relatif.pipeline.report.page.deepening import rounding_note, rounds
from relatif.pipeline.report.page.lists import Histogram, Ranked, Sides
from relatif.pipeline.report.page.media import LONGEST_TEXT, MOST_COLUMNS, Media, plain, read_media
from relatif.pipeline.report.page.page import (
    REVERSE,
    VERSION,
    reverse_json,
    run_json,
    sides_json,
    test_json,
    train_json,
)
from relatif.pipeline.report.page.served import served
from relatif.pipeline.report.page.sources import Source, source_of
from relatif.pipeline.report.page.sprites import reduced, sheets, tile_size
from relatif.pipeline.showing.shown import Media as Looks
from relatif.schemas.methods import DISTANCE, METHODS, explaining

EXPLAINED = "What was explained"
"""Title of the fact that is another one for one input than for a run."""

OWN = -1
"""Stands at the first position of the page's test inputs for the input that is explained, wherever it comes from."""


def page_of_input(found: Explanation, by: str | None = None) -> dict[str, Any]:
    """Return the page's JSON object for one explanation; ``by`` splits its scores by ``layer`` or ``token``.

    Raises StorageError and DataError where the run's tables or data can't be read.
    """
    source, train, test = source_of(found.one.run), Positions(), Positions()
    test.of([OWN])
    named = explaining(found.methods)
    texts = part_texts(found.one, found.methods, found.harms, None if by is None else found.parts(by))
    shown = {name: sides_json(sides_of(found, name, texts, by), train) for name in named}
    back = reverse_json(source, train, test, REVERSE)
    others = Positions()
    others.of(test.rows[1:])
    part = source.run.config.data.scored or "train"
    media = [
        read_media(source.run.data, source.run.dataset, name, each.rows, source.look)
        for name, each in ((part, train), (TEST, others))
    ]
    own = _looks(found)
    return {
        "version": VERSION,
        "run": _run(source, found, named),
        "sheets": _sheets(media, own),
        "columns": None if source.look.columns is None else list(source.look.columns),
        "train": train_json(source, train, media[0]),
        "test": _with_own(test_json(source, others, media[1]), _own(source, found, own), len(others.rows)),
        "explanations": [{"methods": shown}],
        "reverse": back,
        "served": served(source, train),
        "self_histogram": None,
        "story": None,
        "labels": None,
        "whole": {},
    }


def sides_of(found: Explanation, name: str, texts: PartTexts, by: str | None) -> Sides:
    """Return what a method says of the input, with parts of scores where they are asked for."""
    helps, harms = found.methods[name], found.harms.get(name, ())
    return Sides(
        _ranked(found, name, helps, _parts(texts, name, HELPS, len(helps), by)),
        _ranked(found, name, harms, _parts(texts, name, HARMS, len(harms), by)) if harms else None,
        _histogram(found, name),
    )


def _ranked(found: Explanation, name: str, helpers: Sequence[Helper], more: Mapping[str, object]) -> Ranked:
    rows = np.array([each.train_index for each in helpers], np.int64)
    score = np.array([each.score for each in helpers], np.float64)
    if METHODS[name].numerator == DISTANCE:
        return Ranked(rows, -score, more=more)
    effect = _numbers([each.effect for each in helpers])
    corrected = (
        _numbers([found.corrected.get(each.train_index) for each in helpers]) if METHODS[name].additive else None
    )
    return Ranked(rows, score, effect, corrected, more=more)


def _numbers(values: Sequence[float | None]) -> np.ndarray | None:
    """Return numbers, NaN for what is none; None where none is."""
    if all(value is None for value in values):
        return None
    return np.array([np.nan if value is None else value for value in values], np.float64)


def _parts(texts: PartTexts, name: str, side: str, count: int, by: str | None) -> dict[str, object]:
    splits = [texts.of(name, side, place) for place in range(count)]
    if by is None or not any(split.parts or split.rest is not None for split in splits):
        return {}
    if by == LAYER:
        names = [layer for layer, _ in splits[0].parts]
        return {"by_layer": {"names": names, "shares": [rounded([part for _, part in each.parts]) for each in splits]}}
    rest = rounded([0.0 if split.rest is None else split.rest for split in splits])
    if not any(split.parts for split in splits):
        return {"rest": rest}
    return {"tokens": [[[text, rounded_number(part)] for text, part in split.parts] for split in splits], "rest": rest}


def _histogram(found: Explanation, name: str) -> Histogram | None:
    """Return the histogram of the input's scores where gradients are stored; else it would take another pass."""
    engine = found.one.engine
    if not engine.training.is_stored or METHODS[name].numerator == DISTANCE:
        return None
    if METHODS[name].sign < 0:
        return None
    made = engine.best(found.one.explained, [name], k=1, lowest=1, histograms=True)
    return Histogram.of(made, name, 0, rounded=rounds(engine))


def _looks(found: Explanation) -> Looks:
    run, query = found.one.run, found.query
    if query.split is not None and query.row is not None:
        return media_of_rows(run, query.split, [query.row])[query.row]
    return media_of(run, query.stored.inputs, [query.text])[0]


def _sheets(media: Sequence[Media], own: Looks) -> dict[str, object] | None:
    if not media[0].tiles:
        return None
    # The page's training examples come first, then its inputs, of which this one is the first.
    tile = [] if own.picture is None else [reduced(own.picture, tile_size(*own.picture.shape[:2]))]
    return sheets([*media[0].tiles, *tile, *media[1].tiles]).json()


def _own(source: Source, found: Explanation, looks: Looks) -> dict[str, Any]:
    """Return the values of the explained input, column by column."""
    query, columns = found.query, found.columns
    label, predicted = found.label, found.predicted_label
    if not source.run.dataset.class_names:
        label, predicted = (_single(columns.get(name)) for name in ("target", "prediction"))
    is_test = query.split == TEST
    return {
        "index": query.row if is_test else None,
        "id": None if is_test else _called(query.told)[1],
        "label": label,
        "predicted": predicted,
        "explained": found.explained_label,
        "probability": None if found.probability is None else rounded_number(found.probability),
        "loss": None if columns.get("loss") is None else rounded_number(columns["loss"]),
        "text": None if looks.text is None else looks.text[:LONGEST_TEXT],
        "row": _row(found) if source.look.kind == "row" else None,
    }


def _single(values: Any) -> Any:
    """Return a target of one number; None for several."""
    one = values[0] if isinstance(values, list) and len(values) == 1 else values
    return None if isinstance(one, list) or one is None else rounded_number(one)


def _row(found: Explanation) -> list[float | int | bool]:
    flat = [each.reshape(-1) for each in batches.tensors(found.query.stored.inputs)]
    return [plain(value) for values in flat for value in values.to(_plain_type(values)).tolist()][:MOST_COLUMNS]


def _plain_type(values: torch.Tensor) -> torch.dtype:
    return torch.float64 if values.is_floating_point() else values.dtype


def _with_own(columns: Mapping[str, Any], own: Mapping[str, Any], count: int) -> dict[str, Any]:
    """Return the columns of the test inputs with the explained input before them; None where nobody has a value."""
    return {
        name: None
        if values is None and own[name] is None
        else [own[name], *([None] * count if values is None else values)]
        for name, values in columns.items()
    }


def _run(source: Source, found: Explanation, named: Sequence[str]) -> dict[str, Any]:
    made = run_json(source, 1, {"leave_one_out": None})
    typical = {name: source.counts.typical.get(name) for name in named}
    unit = about.UNITS.get(found.one.measurement, found.one.measurement)
    entries = about.method_entries(named, typical)  # type: ignore[arg-type]
    noun = made["noun"]
    if found.query.split != TEST:
        noun = noun | {"test": [_called(found.query.told)[0], noun["test"][1]]}
    told = {
        "unit": unit,
        "noun": noun,
        "sample": f"This page explains {found.query.told}{rounding_note(found.one.engine)}",
    }
    return made | told | {"methods": entries, "facts": _facts(found, made["facts"])}


def _facts(found: Explanation, of_run: Sequence[Mapping[str, str]]) -> list[Mapping[str, str]]:
    """Return what is told of the run, but of this input what was explained, and what was done to it."""
    name, one = found.class_name(found.explained_label), found.one
    target = f"{name!r}" if name is not None else {"true": "its true target"}.get(str(one.label), "its prediction")
    count = f"{one.run.scored_rows:,} examples"
    own = [{"title": EXPLAINED, "text": f"The {one.measurement} of {target}, of {found.query.told}, by {count}."}]
    if found.query.notes:
        notes = "; ".join(found.query.notes)
        own.append({"title": "What was done to it", "text": f"{notes[0].upper()}{notes[1:]}."})
    return [*own, *(fact for fact in of_run if fact["title"] != EXPLAINED)]


def _called(told: str) -> tuple[str, str]:
    """Return what an input is called in two parts, as the page calls one by a noun and a name.

    >>> _called("the file drawn 7.png"), _called("the picture")
    (('the file', 'drawn 7.png'), ('the', 'picture'))
    """
    *noun, name = told.split(" ", 2)
    return " ".join(noun), name
