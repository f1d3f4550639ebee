"""The paper's own figures for its tasks, from a run's tables, and the pictures that jobs left in a run."""

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relatif.pipeline.report.page.columns import Positions
from relatif.pipeline.report.page.lists import SHOWN
from relatif.pipeline.report.page.sources import Source
from relatif.pipeline.report.page.tables import EMPTY, NO_CLASS, Examples
from relatif.pipeline.report.page.whole import paper_of
from relatif.pipeline.storage.store import Store
from relatif.schemas import run_directory

INPUTS, RANKS = 4, 5

LEFT_BY_JOBS = {
    run_directory.PLANE: ("Fig. 1 of the paper: which example explains each point of the plane", "relatif toy"),
    run_directory.LEAVE_ONE_OUT_PLOT: (
        "Fig. 6 of the paper: predicted and actual change of the test loss",
        "relatif leave_one_out",
    ),
    run_directory.MISLABEL_DETECTION: ("How early rankings find flipped labels", "relatif evaluate"),
    run_directory.LINEAR_DATAMODELING: ("How well summed scores order models trained on subsets", "relatif evaluate"),
}
"""Pictures by path: what they show, and the job that draws them."""


@dataclass(frozen=True)
class Beside:
    """A figure that shows the first examples of inputs by two methods beside one another."""

    title: str
    methods: tuple[str, str]


BESIDE: Mapping[str, tuple[Beside, ...]] = {
    "LR": (
        Beside("Fig. 4 of the paper: IF beside RelatIF", ("influence", "l_relatif")),
        Beside("Fig. 8 of the paper: both forms of RelatIF", ("theta_relatif", "l_relatif")),
    ),
    "CNN": (
        Beside("Figs. 5, 10 and 11 of the paper: IF beside RelatIF", ("influence", "l_relatif")),
        Beside("Fig. 9 of the paper: neighbours beside RelatIF", ("nearest_neighbour", "l_relatif")),
    ),
}
"""Figures of the paper's experiments."""


def pictures_of_jobs(store: Store) -> list[dict[str, str]]:
    """Return the pictures that jobs left beside the page."""
    return [
        {
            "title": title,
            "text": f"Drawn by {job}.",
            "png": base64.b64encode(data).decode(),
            "alt": f"{title}. Drawn by {job}.",
        }
        for path, (title, job) in LEFT_BY_JOBS.items()
        if (data := store.find_bytes(path)) is not None
    ]


def paper_figures(
    source: Source, places: NDArray[np.int64], train: Positions, test: Positions
) -> Iterator[dict[str, Any]]:
    """Yield the figures of the paper's experiments on images, of inputs of the page by place; none for another run.

    Each has the positions of its inputs, and by method those of the examples that it names first.
    """
    experiment, tables = paper_of(source.run), source.tables
    if experiment is None or experiment not in BESIDE or source.look.kind != "image":
        return
    if source.story is not None:
        yield {
            "title": "Fig. 3 of the paper: the example that is named first",
            "text": "Six test inputs, and the one example that each method names first.",
            "inputs": test.of(tables.test.index[source.story.inputs]),
            "lists": {method: [train.of(row[:1]) for row in rows] for method, rows in source.story.rows.items()},
        }
    inputs = right_of_each_class(tables.test, places)
    ranks = min(RANKS, tables.lists.ranks, SHOWN)
    for figure in BESIDE[experiment]:
        if set(figure.methods) <= set(tables.methods) and inputs:
            yield {
                "title": figure.title,
                "text": f"Test inputs that the model gets right, and the {ranks} examples that a method names first.",
                "inputs": test.of(tables.test.index[inputs]),
                "lists": {
                    method: [train.of(_listed(tables.lists.train[method][place, :ranks])) for place in inputs]
                    for method in figure.methods
                },
            }


def _listed(rows: NDArray[np.int32]) -> NDArray[np.int32]:
    return rows[rows != EMPTY]


def right_of_each_class(test: Examples, places: NDArray[np.int64]) -> list[int]:
    """Return the places of the first inputs that the model gets right, each of another class."""
    label, wrong = test.classes.get("label"), test.wrong()
    if label is None:
        return []
    found: dict[int, int] = {}
    for place in sorted(places.tolist()):
        if not wrong[place] and label[place] != NO_CLASS:
            found.setdefault(int(label[place]), place)
    return list(found.values())[:INPUTS]
