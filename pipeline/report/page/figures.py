"""The paper's own figures for its tasks, from a run's tables, and the pictures that jobs left in a run."""

import base64
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relatif.pipeline.report.page.about import title_of
from relatif.pipeline.report.page.choosing import Story
from relatif.pipeline.report.page.columns import Positions
from relatif.pipeline.report.page.lists import SHOWN
from relatif.pipeline.report.page.mosaic import Cell, Mosaic, draw
from relatif.pipeline.report.page.sprites import Tile
from relatif.pipeline.report.page.tables import EMPTY, NO_CLASS, Examples, PageTables
from relatif.pipeline.storage.store import Store
from relatif.schemas import run_directory

INPUTS, RANKS = 4, 5

LEFT_BY_JOBS = {
    run_directory.PLANE: ("Fig. 1: which example explains each point of the plane", "relatif toy"),
    run_directory.LEAVE_ONE_OUT_PLOT: ("Fig. 6: predicted and actual change of the test loss", "relatif leave_one_out"),
    run_directory.MISLABEL_DETECTION: ("How early rankings find flipped labels", "relatif evaluate"),
    run_directory.LINEAR_DATAMODELING: ("How well summed scores order models trained on subsets", "relatif evaluate"),
}
"""Pictures by path: what they show, and the job that draws them."""


@dataclass(frozen=True)
class Pair:
    """A figure that shows the first examples of inputs by two methods side by side."""

    title: str
    methods: tuple[str, str]
    text: str


BY_PAIRS: Mapping[str, tuple[Pair, ...]] = {
    "LR": (
        Pair("Fig. 4: IF beside RelatIF", ("influence", "l_relatif"), "Test input, then its first examples."),
        Pair("Fig. 8: both forms of RelatIF", ("theta_relatif", "l_relatif"), "Test input, then its first examples."),
    ),
    "CNN": (
        Pair("Figs. 5, 10 and 11: IF beside RelatIF", ("influence", "l_relatif"), "Test input, then its examples."),
        Pair("Fig. 9: neighbours beside RelatIF", ("nearest_neighbour", "l_relatif"), "Test input, then its examples."),
    ),
}
"""Figures of the paper's experiments."""


@dataclass(frozen=True, eq=False)
class Seen:
    """Pictures of the page's rows: tiles by training row and by test row, and the names of classes."""

    train: Mapping[int, Tile]
    test: Mapping[int, Tile]
    class_name: Callable[[int | None], str]


def seen(train: Positions, test: Positions, tiles: tuple[Sequence[Tile], Sequence[Tile]], name: Any) -> Seen:
    """Return the tiles of positions by their rows."""
    return Seen(dict(zip(train.rows, tiles[0], strict=True)), dict(zip(test.rows, tiles[1], strict=True)), name)


def pictures_of_jobs(store: Store) -> list[dict[str, str]]:
    """Return the pictures that jobs left beside the page."""
    return [
        _entry(title, f"Drawn by {job}.", data)
        for path, (title, job) in LEFT_BY_JOBS.items()
        if (data := store.find_bytes(path)) is not None
    ]


def paper_figures(
    experiment: str | None, tables: PageTables, places: NDArray[np.int64], story: Story | None, seen: Seen
) -> Iterator[dict[str, str]]:
    """Yield the figures of the paper's experiments on images, of inputs of the page by place; none for another run."""
    if experiment is None or experiment not in BY_PAIRS:
        return
    if story is not None:
        text = "Test inputs, and below them the example that each method names first."
        yield _entry("Fig. 3: the example that is named first", text, draw(_first_examples(tables, story, seen)))
    inputs = _right_of_each_class(tables.test, places)
    for pair in BY_PAIRS[experiment]:
        if set(pair.methods) <= set(tables.methods) and inputs:
            yield _entry(
                pair.title,
                f"{pair.text} Class; below it what the model predicts where it differs.",
                draw(side_by_side(tables, inputs, pair.methods, seen)),
            )


def _right_of_each_class(test: Examples, places: NDArray[np.int64]) -> list[int]:
    """Return the places of the first inputs that the model gets right, each of another class."""
    label, wrong = test.classes.get("label"), test.wrong()
    if label is None:
        return []
    found: dict[int, int] = {}
    for place in sorted(places.tolist()):
        if not wrong[place] and label[place] != NO_CLASS:
            found.setdefault(int(label[place]), place)
    return list(found.values())[:INPUTS]


def _first_examples(tables: PageTables, story: Story, seen: Seen) -> Mosaic:
    inputs = [_cell(tables.test, int(place), seen.test, seen) for place in story.inputs]
    first = [
        [_cell(tables.train, int(row), seen.train, seen) for row in listed[:, 0]] for listed in story.rows.values()
    ]
    return Mosaic([inputs, *first], names=["test input", *(title_of(method) for method in story.rows)])


def side_by_side(tables: PageTables, inputs: Sequence[int], methods: tuple[str, str], seen: Seen) -> Mosaic:
    """Return inputs by place, each with its first examples by two methods."""
    ranks = min(RANKS, tables.lists.ranks, SHOWN)
    rows: list[Sequence[Cell | None]] = []
    for place in inputs:
        row: list[Cell | None] = [_cell(tables.test, place, seen.test, seen)]
        for method in methods:
            listed = tables.lists.train[method][place, :ranks]
            row += [None, *(_cell(tables.train, int(each), seen.train, seen) for each in listed if each != EMPTY)]
        rows.append(row)
    titles = [(0, "test input"), (2, title_of(methods[0])), (3 + ranks, title_of(methods[1]))]
    return Mosaic(rows, titles=titles)


def _cell(examples: Examples, place: int, tiles: Mapping[int, Tile], seen: Seen) -> Cell:
    label, predicted = (int(examples.classes[name][place]) for name in ("label", "predicted_label"))
    wrong = bool(examples.wrong()[place])
    caption = seen.class_name(label) + (f"\n→ {seen.class_name(predicted)}" if wrong else "")
    return Cell(tiles[int(examples.index[place])], caption, wrong)


def _entry(title: str, text: str, data: bytes) -> dict[str, str]:
    return {"title": title, "text": text, "png": base64.b64encode(data).decode(), "alt": f"{title}. {text}"}
