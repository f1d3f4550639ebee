"""The story of a page: a few inputs whose explanations by influence are alike, and what the run's numbers support."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from relatif.pipeline.report.page import about
from relatif.pipeline.report.page.columns import Positions
from relatif.pipeline.report.page.lists import Explanation
from relatif.pipeline.report.page.sources import Source
from relatif.pipeline.report.page.tables import EMPTY, identifiers
from relatif.pipeline.report.page.whole import HALF
from relatif.schemas import run_directory
from relatif.schemas.tables import TRAIN_EXAMPLES

FEW, MANY, TIMES, INPUTS_TO_TELL = 20, 24, 3, 100
"""The headline of the story is "distinct" where its 30 places hold at most FEW examples by influence, at least MANY by
relative influence, this needs TIMES as many examples to reach half of all inputs, and there are enough of these."""


def story_json(
    source: Source, explanations: Sequence[Explanation], train: Positions, test: Positions
) -> dict[str, Any] | None:
    """Return the story: the inputs whose lists have most in common, and what supports its headline."""
    story, counts = source.story, source.counts
    if story is None:
        return None
    first, second = story.rows
    half = {method: counts.reach[method].needed(HALF) for method in counts.reach}
    different = story.different
    wide = half[second] is None or (half[first] is not None and half[second] >= TIMES * half[first])  # type: ignore[operator]
    few = different[first] <= FEW and half[first] is not None
    distinct = few and different[second] >= MANY and wide and len(source.tables.test) >= INPUTS_TO_TELL
    return {
        "inputs": test.of(source.tables.test.index[story.inputs]),
        "methods": [first, second],
        "rows": {method: [train.of(row) for row in rows] for method, rows in story.rows.items()},
        "different": different,
        "bars": list(_bars(source, half, explanations)),
        "most": _most(source, first, second, train),
        "headline": "distinct" if distinct else "plain",
    }


def _bars(
    source: Source, half: Mapping[str, int | None], explanations: Sequence[Explanation]
) -> Iterator[dict[str, Any]]:
    """Yield what methods are compared by: how many examples are needed, how often one is used, how many are errors."""
    counts, noun = source.counts, about.NOUNS[source.look.kind]
    many = about.nouns(source.look.kind, scored=source.run.config.data.scored is not None)["train"][1]
    yield {
        "title": f"{many.capitalize()} it takes to reach half of all inputs",
        "values": dict(half),
        "text": {method: "more than were counted" if value is None else f"{value:,}" for method, value in half.items()},
    }
    yield {
        "title": f"Inputs that a typical listed {noun} explains",
        "values": dict(counts.typical),
        "text": {method: f"{value:,}" for method, value in counts.typical.items()},
    }
    wrong = source.tables.train.wrong()
    if wrong.any():
        lists = source.tables.lists.train
        share = {method: float(wrong[lists[method][lists[method] != EMPTY]].mean()) for method in counts.typical}
        yield {
            "title": f"Explaining {noun}s that the model itself gets wrong",
            "values": {method: round(value, 4) for method, value in share.items()},
            "text": {method: f"{value:.1%}" for method, value in share.items()},
        }
    places = median_places(explanations)
    if places:
        yield {
            "title": f"Median place of a listed {noun} by input distance",
            "values": places,
            "text": {method: f"{value:,}" for method, value in places.items()},
        }


def _most(source: Source, first: str, second: str, train: Positions) -> dict[str, Any]:
    """Return the example that stands in most lists by the first method, and how often by the second."""
    row = int(source.counts.dominating(first)[0])
    fan = {method: int(source.counts.fan[method][row]) for method in (first, second)}
    names = [f"{fan[method]:,}" if fan[method] else "none" for method in (first, second)]
    text = (
        f"The most frequent: {_called(source, row)}. {about.title_of(first)} names it for {names[0]} of "
        f"{len(source.tables.test):,} inputs, {about.title_of(second)} for {names[1]}."
    )
    return {"train": train.of([row])[0], "method": first, "text": text}


def _called(source: Source, row: int) -> str:
    """Return how an example is told from others: by its class, and by what the model makes of it."""
    table, noun = source.tables.train, about.NOUNS[source.look.kind]
    place = int(table.places(np.array([row]))[0])
    label, predicted = (table.classes.get(name) for name in ("label", "predicted_label"))
    if label is None or predicted is None or not source.run.dataset.class_names:
        store = source.run.store.child(run_directory.TABLES)
        own = identifiers(store, TRAIN_EXAMPLES.name, "train_index", "train_id", [row]) or {}
        return f"the {noun} {own[row]!r}" if row in own else f"the {noun} in row {row:,}"
    name = source.run.dataset.class_name
    called = f", which the model calls {name(int(predicted[place]))!r}" if predicted[place] != label[place] else ""
    return f"this {noun} of {name(int(label[place]))!r}{called}"


def median_places(explanations: Sequence[Explanation]) -> dict[str, int]:
    """Return the median place by input distance of the examples that help, by method; none where none was counted."""
    found: dict[str, list[int]] = {}
    for each in explanations:
        for method, sides in each.items():
            if sides.helps.place is not None:
                found.setdefault(method, []).extend(sides.helps.place.tolist())
    return {method: int(np.median(places)) for method, places in found.items() if places}
