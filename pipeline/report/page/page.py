"""The report page's JSON object, from a finished run: what is drawn, and nothing else.

Axes: M explained inputs, N training examples, P positions of the page.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from relatif.pipeline.report.page import about
from relatif.pipeline.report.page.choosing import INPUTS, chosen_inputs
from relatif.pipeline.report.page.columns import Positions, class_numbers, ids, labels, numbers, rounded, rounded_number
from relatif.pipeline.report.page.counting import places_from_highest
from relatif.pipeline.report.page.figures import paper_figures, pictures_of_jobs
from relatif.pipeline.report.page.lists import BINS, Explanation, Ranked, Sides, explanations
from relatif.pipeline.report.page.media import Media, read_media
from relatif.pipeline.report.page.served import served
from relatif.pipeline.report.page.sources import Source
from relatif.pipeline.report.page.sprites import sheets
from relatif.pipeline.report.page.story import story_json
from relatif.pipeline.report.page.tables import EMPTY, Examples, PageTables, identifiers, read_scores
from relatif.pipeline.report.page.whole import whole
from relatif.pipeline.runs.run import Run
from relatif.schemas import run_directory
from relatif.schemas.tables import TEST_EXAMPLES, TRAIN_EXAMPLES

VERSION = 1
REVERSE = 28
"""Inputs that are shown of those that a training example explains."""


class Panel(Protocol):
    """A part of the whole that the engine adds."""

    def json(self, train: Positions, test: Positions) -> dict[str, Any]:
        """Return the part as the page reads it; rows get positions."""
        ...


@dataclass(frozen=True, eq=False)
class Chosen:
    """What a page shows: inputs by place with what explains them, and how many inputs of a training example."""

    places: NDArray[np.int64]
    explanations: Sequence[Explanation]
    reverse: int = REVERSE
    note: str = ""
    """What is said of the page beside how many inputs it has."""
    labels: Mapping[str, Any] | None = None
    """Labels to look at, with rows of the training set."""
    by_class: Mapping[str, Any] | None = None
    """Influence summed by class over the page's inputs."""
    panels: Mapping[str, Panel] = field(default_factory=dict)
    """Further parts of the whole by name."""


def chosen_from_tables(source: Source, count: int = INPUTS, reverse: int = REVERSE) -> Chosen:
    """Return the inputs of a page, and what the tables say of them."""
    tables, run = source.tables, source.run
    first = [] if source.story is None else source.story.inputs.tolist()
    places = chosen_inputs(tables.test, count, first)
    rows = tables.test.index[places]
    order = np.argsort(rows)
    read = read_scores(run.store.child(run_directory.TABLES), tables.methods, rows[order], tables.lists.ranks)
    back = np.argsort(order)
    scores = {method: values[back] for method, values in read.items()}
    return Chosen(places, explanations(tables, places, scores, source.methods, run.train_rows), reverse)


def page_data(source: Source, chosen: Chosen) -> dict[str, Any]:
    """Return the page's JSON object.

    Raises StorageError and DataError where tables or data can't be read.
    """
    train, test = Positions(), Positions()
    test.of(source.tables.test.index[chosen.places])
    shown = [{name: sides_json(sides, train) for name, sides in each.items()} for each in chosen.explanations]
    together = whole(source.run, source.tables, source.counts, train)
    story = story_json(source, chosen.explanations, train, test)
    queue = labels_json(source, chosen.labels, train)
    together |= {name: panel.json(train, test) for name, panel in chosen.panels.items()}
    figures = paper_figures(source, chosen.places, train, test)
    together["figures"] = [*pictures_of_jobs(source.run.store), *figures]
    back = reverse_json(source, train, test, chosen.reverse)
    media = _media(source, train, test)
    together["influence_by_class"] = together["influence_by_class"] or chosen.by_class
    return {
        "version": VERSION,
        "run": run_json(source, len(chosen.places), together, chosen.note),
        **_pictures(media),
        "columns": None if source.look.columns is None else list(source.look.columns),
        "train": train_json(source, train, media[0]),
        "test": test_json(source, test, media[1]),
        "explanations": [{"methods": each} for each in shown],
        "reverse": back,
        "served": served(source, train),
        "self_histogram": self_histogram(source.tables.train),
        "story": story,
        "labels": queue,
        "whole": together,
    }


def sides_json(sides: Sides, train: Positions) -> dict[str, Any]:
    """Return one method's explanation of one input."""
    found = sides.histogram
    return {
        "helps": _ranked(sides.helps, train),
        "harms": None if sides.harms is None else _ranked(sides.harms, train),
        "histogram": None
        if found is None
        else {
            "low": rounded([found.low])[0],
            "high": rounded([found.high])[0],
            "counts": found.counts.tolist(),
            "helping": found.helping,
            "harming": found.harming,
            **({"rounded": True} if found.rounded else {}),
        },
    }


def _ranked(side: Ranked, train: Positions) -> dict[str, Any]:
    return {
        "train": train.of(side.train),
        "score": rounded(side.score),
        "effect": None if side.effect is None else rounded(side.effect),
        "corrected": None if side.corrected is None else rounded(side.corrected),
        "place": None if side.place is None else side.place.tolist(),
        **side.more,
    }


def labels_json(source: Source, labels: Mapping[str, Any] | None, train: Positions) -> dict[str, Any] | None:
    """Return the labels to look at with positions in place of rows, and how many inputs each example explains."""
    if labels is None:
        return None
    lists = ("helpers_label", "helpers_suggested", "nearest")
    fan = source.counts.fan
    rows = [
        {
            **row,
            "train": train.of([row["train"]])[0],
            "suspicion": rounded_number(row["suspicion"]),
            **{name: train.of(row[name]) for name in lists},
            "touches": {method: int(fan[method][row["train"]]) for method in source.methods},
        }
        for row in labels["rows"]
    ]
    return {**labels, "rows": rows}


def reverse_json(source: Source, train: Positions, test: Positions, most: int) -> dict[str, dict[str, list[int]]]:
    """Return, by method and position, the inputs that a training example of the page explains, errors first.

    Inputs of the better ranks come before others.
    """
    place = np.full(len(source.tables.train), EMPTY, np.int64)
    place[source.tables.train.places(train.array)] = np.arange(len(train.rows))
    wrong = source.tables.test.wrong()
    found: dict[str, dict[str, list[int]]] = {}
    for method in source.methods:
        lists = source.tables.lists.train[method]
        tests, ranks = np.nonzero((lists != EMPTY) & (place[lists] != EMPTY))
        positions = place[lists[tests, ranks]]
        order = np.lexsort((tests, ranks, ~wrong[tests], positions))
        names, starts = np.unique(positions[order], return_index=True)
        parts = np.split(source.tables.test.index[tests[order]], starts[1:])
        found[method] = {str(name): test.of(part[:most]) for name, part in zip(names, parts, strict=True)}
    return found


def self_histogram(train: Examples) -> dict[str, Any] | None:
    """Return the histogram of log10 of self-influence over all examples; of those that have any."""
    values = train.numbers.get("self_influence")
    if values is None:
        return None
    logs = np.log10(values[values > 0].astype(np.float64))
    if not len(logs):
        return None
    low, high = float(np.floor(logs.min())), float(np.ceil(logs.max()))
    high = high if high > low else low + 1
    counts, _ = np.histogram(logs, bins=BINS, range=(low, high))
    return {"low": low, "high": high, "counts": counts.tolist()}


def _media(source: Source, train: Positions, test: Positions) -> tuple[Media, Media]:
    run, look = source.run, source.look
    part = run.config.data.scored or "train"
    return (
        read_media(run.data, run.dataset, part, train.rows, look),
        read_media(run.data, run.dataset, "test", test.rows, look),
    )


def _pictures(media: tuple[Media, Media]) -> dict[str, Any]:
    tiles = [*media[0].tiles, *media[1].tiles]
    return {"sheets": sheets(tiles).json() if tiles else None}


def train_json(source: Source, train: Positions, media: Media) -> dict[str, Any]:
    """Return the training examples of the page, column by column."""
    table, rows = source.tables.train, train.array
    places = table.places(rows)
    store = source.run.store.child(run_directory.TABLES)
    label, predicted = labels(table, places)
    own = table.numbers.get("self_influence")
    return {
        "index": train.rows,
        "id": ids(identifiers(store, TRAIN_EXAMPLES.name, "train_index", "train_id", train.rows), train.rows),
        "label": label,
        "predicted": predicted,
        "probability": numbers(table, "probability", places),
        "loss": numbers(table, "loss", places),
        "self_influence": numbers(table, "self_influence", places),
        "self_place": None if own is None else places_from_highest(own)[places].tolist(),
        "text": media.texts,
        "row": media.rows,
        "fan": {method: fan[places].tolist() for method, fan in source.counts.fan.items()},
    }


def test_json(source: Source, test: Positions, media: Media) -> dict[str, Any]:
    """Return the test inputs of the page, column by column."""
    table = source.tables.test
    places = table.places(test.array)
    store = source.run.store.child(run_directory.TABLES)
    label, predicted = labels(table, places)
    return {
        "index": test.rows,
        "id": ids(identifiers(store, TEST_EXAMPLES.name, "test_index", "test_id", test.rows), test.rows),
        "label": label,
        "predicted": predicted,
        "explained": class_numbers(table, "explained_label", places),
        "probability": numbers(table, "probability", places),
        "loss": numbers(table, "loss", places),
        "text": media.texts,
        "row": media.rows,
    }


def run_json(source: Source, shown: int, together: Mapping[str, Any], note: str = "") -> dict[str, Any]:
    """Return what the page says of the run; ``together`` has what retraining said, ``note`` follows the sample."""
    run, tables = source.run, source.tables
    kind, test = kind_of(run, tables), tables.test
    wrong = int(test.wrong().sum()) if {"label", "predicted_label"} <= set(test.classes) and kind == "classes" else None
    labelled = int((test.classes["label"] >= 0).sum()) if wrong is not None else 0
    out, told = together["leave_one_out"], about.measured(tables.told)
    return {
        "title": run.config.task,
        "kind": kind,
        "media": source.look.kind,
        "noun": about.nouns(source.look.kind, scored=run.config.data.scored is not None),
        "classes": list(run.dataset.class_names) or None,
        "scored": run.config.data.scored is not None,
        "n": len(tables.train),
        "m": len(test),
        "k": tables.lists.ranks,
        "wrong": wrong,
        "accuracy": round(1 - wrong / labelled, 4) if wrong is not None and labelled else None,
        "unit": told.unit,
        "methods": about.method_entries(source.methods, source.counts.typical),
        "facts": about.facts(run, tables),
        "checks": about.checks(run, None if out is None else out["text"]),
        "digests": about.digests(run, tables.told),
        "explain": f"relatif explain --run {run.store.describe()} --test-index {{index}}",
        "sample": sample_text(shown, len(test), errors=kind == "classes") + note,
    }


def kind_of(run: Run, tables: PageTables) -> str:
    """Return whether targets are ``classes``, single ``numbers``, or ``other``: several labels, tokens, pixels."""
    if run.dataset.class_names and "label" in tables.train.classes:
        return "classes"
    single = "target" in tables.train.numbers and "prediction" in tables.train.numbers
    return "numbers" if single or "label" in tables.train.classes else "other"


def sample_text(shown: int, inputs: int, *, errors: bool) -> str:
    """Return which inputs the page explains."""
    if shown == inputs:
        return f"All {inputs:,} inputs are on this page"
    first = "errors first" if errors else "those with the largest error first"
    small = f", fewer than {INPUTS} so that it stays small" if shown < min(INPUTS, inputs) else ""
    return f"{shown:,} of {inputs:,} inputs are on this page, {first}{small}; the tables hold all"
