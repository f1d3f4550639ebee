"""Which inputs the page explains, and the few that tell its story.

Axes: M explained inputs of the run, K ranks.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from relatif.pipeline.draws import sampled_rows
from relatif.pipeline.report.page.tables import EMPTY, NO_CLASS, Examples, PageTables

INPUTS, ERROR_SHARE = 500, 0.6
"""Inputs of a page, and how large a share of these may be errors: right answers are there too."""

SAMPLE_SEED = 0

STORY_INPUTS, STORY_RANKS, STORY_GROUPS = 6, 5, 2
STORY_CANDIDATES, STORY_EXAMPLES = 2000, 200
"""Inputs of a group, and examples that may make one, that are looked at."""

Places = NDArray[np.int64]


def residuals(test: Examples) -> NDArray[np.float64] | None:
    """Return target minus prediction of each input [M], NaN where one is missing; None where they are no numbers."""
    target, prediction = test.numbers.get("target"), test.numbers.get("prediction")
    if target is None or prediction is None:
        return None
    return np.asarray(target, np.float64) - np.asarray(prediction, np.float64)


def severity(test: Examples) -> NDArray[np.float64]:
    """Return how bad an error is, [M]: the size of the residual, else how confident the model is, else the loss."""
    rest = residuals(test)
    if rest is not None:
        return np.nan_to_num(np.abs(rest))
    probability = test.numbers.get("probability")
    if probability is None or "predicted_label" not in test.classes:
        return np.nan_to_num(np.asarray(test.numbers["loss"], np.float64))
    confidence = np.asarray(probability, np.float64)
    explained = test.classes.get("explained_label")
    if explained is not None:
        # Of another label than the predicted one, a low probability is what makes the prediction confident.
        confidence = np.where(explained == test.classes["predicted_label"], confidence, 1 - confidence)
    return np.nan_to_num(confidence)


def chosen_inputs(test: Examples, count: int, first: Sequence[int] = ()) -> Places:
    """Return the places of at most ``count`` inputs in the page's order: errors first, the worst first.

    Errors are at most ERROR_SHARE of them, the rest is a sample of the others; ``first`` are among them in any case.
    Where nothing is wrong or right, the inputs with the largest residual or loss take the place of errors.
    """
    wrong, badness = test.wrong(), severity(test)
    if len(test) <= count:
        chosen = np.arange(len(test))
    else:
        told = "label" in test.classes and "predicted_label" in test.classes
        ranked = np.lexsort((np.arange(len(test)), -badness))
        errors = (ranked[wrong[ranked]] if told else ranked)[: int(count * ERROR_SHARE)]
        taken = list(dict.fromkeys([*first, *errors.tolist()]))[:count]
        rest = np.setdiff1d(np.flatnonzero(~wrong) if told else np.arange(len(test)), taken)
        sample = rest[sampled_rows(len(rest), count - len(taken), SAMPLE_SEED)] if len(rest) else rest
        chosen = np.concatenate([np.array(taken, np.int64), sample])
    order = np.lexsort((test.index[chosen], -badness[chosen], ~wrong[chosen]))
    return chosen[order]


@dataclass(frozen=True, eq=False)
class Story:
    """Inputs [6] by place, and by two methods the training rows [6, 5] that explain them."""

    inputs: Places
    rows: dict[str, NDArray[np.int32]]

    @property
    def different(self) -> dict[str, int]:
        """How many different examples stand in the places of each method."""
        return {method: len(np.unique(rows)) for method, rows in self.rows.items()}


def chosen_story(tables: PageTables) -> Story | None:
    """Return two groups of inputs that share an example by influence, beside what relative influence lists.

    An example that stands among the first of most inputs makes a group of those that list it, of one class; the second
    group is of another class. Inputs that the model gets right come before others. None where a method, or enough
    inputs or ranks, are missing.
    """
    relative = next((method for method in ("l_relatif", "theta_relatif") if method in tables.methods), None)
    if relative is None or "influence" not in tables.methods or tables.lists.ranks < STORY_RANKS:
        return None
    lists = {method: tables.lists.train[method][:, :STORY_RANKS] for method in ("influence", relative)}
    usable = np.logical_and.reduce([(each != EMPTY).all(axis=1) for each in lists.values()])
    right = usable & ~tables.test.wrong()
    for among in (right, usable):
        groups = _groups(tables.test, lists["influence"], lists[relative], among)
        if groups is not None:
            inputs = np.concatenate(groups)
            return Story(inputs, {method: each[inputs] for method, each in lists.items()})
    return None


def _groups(
    test: Examples, influence: NDArray[np.int32], relative: NDArray[np.int32], among: NDArray[np.bool_]
) -> list[Places] | None:
    """Return two groups of inputs that share an example by influence; None where there are no such inputs."""
    classes = class_column(test, "explained_label")
    counts = np.bincount(influence[among].ravel()) if among.any() else np.zeros(0, np.int64)
    found: list[Places] = []
    left = among.copy()
    for example in np.lexsort((np.arange(len(counts)), -counts))[:STORY_EXAMPLES]:
        listing = np.flatnonzero(left & (influence == example).any(axis=1))[:STORY_CANDIDATES]
        if classes is not None and len(listing):
            own = np.bincount(classes[listing]).argmax()
            listing = listing[classes[listing] == own]
        if len(listing) < STORY_INPUTS // 2:
            continue
        found.append(_told_apart(listing, influence, relative))
        left = left & (classes != own if classes is not None else ~(influence == example).any(axis=1))
        if len(found) == STORY_GROUPS:
            return found
    return None


def _told_apart(candidates: Places, influence: NDArray[np.int32], relative: NDArray[np.int32]) -> Places:
    """Return inputs whose lists by influence have much in common, and whose lists by relative influence differ most.

    Not the most extreme ones: the first is in the middle of the half that has most in common.
    """
    among = np.bincount(influence[candidates].ravel())
    shared = among[influence[candidates]].sum(axis=1)
    ranked = candidates[np.lexsort((candidates, -shared))]
    half = ranked[: max(STORY_INPUTS, len(ranked) // 2)]
    taken = [int(half[len(half) // 2])]
    while len(taken) < STORY_INPUTS // 2:
        common = np.isin(relative[half], relative[taken]).sum(axis=1)
        common[np.isin(half, taken)] = relative.size
        taken.append(int(half[common.argmin()]))
    return np.array(sorted(taken), np.int64)


def class_column(examples: Examples, name: str) -> NDArray[np.int32] | None:
    """Return a column of classes, None where the table has none."""
    found = examples.classes.get(name)
    return None if found is None or not (found != NO_CLASS).any() else found
