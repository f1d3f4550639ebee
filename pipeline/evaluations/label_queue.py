"""Labels to look at: the suspects with what speaks for their label, and for the one that is suggested.

Training examples that help a label are those that rank first by l-RelatIF when that label is explained. They are looked
for among all but the example itself, for the rows that are shown alone.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from relatif.pipeline.curvature.examples import Examples
from relatif.pipeline.evaluations.evaluation import without_classes, without_training_examples
from relatif.pipeline.evaluations.suspects import Suspects, find_suspects
from relatif.pipeline.explaining.engine import Engine
from relatif.pipeline.explaining.query import TRAIN, read_part_rows
from relatif.pipeline.runs.run import Run
from relatif.pipeline.runs.source import model_examples

SUSPECTS, SHOWN, HELPERS = 1500, 150, 10
"""Suspects that are looked at closely, those that are shown, and the examples that speak for a label."""

BY = "l_relatif"

HALF = math.log(2)
"""Loss at a probability of one half: above it the model doubts a label."""

SMALL = 0.01
"""Shares below this are told as less than it."""


@dataclass(frozen=True)
class Evidence:
    """One reason to look at a label: what says so, how strongly (0 to 1), and in words."""

    what: str
    share: float
    text: str


@dataclass(frozen=True)
class QueueRow:
    """A training example whose label looks wrong, by rows of the training set; ``suspicion`` from 0 to 100.

    ``suggested`` is None where nothing else has more support than the label itself.
    """

    train: int
    suspicion: float
    label: int
    suggested: int | None
    evidence: tuple[Evidence, ...]
    helpers_label: tuple[int, ...]
    helpers_suggested: tuple[int, ...]
    nearest: tuple[int, ...]


@dataclass(frozen=True)
class LabelQueue:
    """Rows, most suspicious first, of ``total`` training examples, and in words ``how`` they are ordered."""

    how: str
    total: int
    rows: tuple[QueueRow, ...]

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self)


def without_queue(run: Run) -> str | None:
    """Return why there are no labels to look at, as one line; None where there are."""
    return without_training_examples(run) or without_classes(run)


def label_queue(engine: Engine, *, suspects: int = SUSPECTS, shown: int = SHOWN) -> LabelQueue:
    """Return the labels of a finished run to look at, where ``without_queue`` has nothing to say.

    Raises as ``find_suspects``.
    """
    run = engine.run
    found = find_suspects(run.source, run.train_shards, suspects, engine.explainer.worker)
    own, rival = found.labels[:shown], found.suggested[:shown]
    helpers = _helpers(engine, found.rows[:shown], torch.cat([own, rival]))
    rows = [_row(run, found, place, helpers, min(shown, len(found.rows))) for place in range(len(own))]
    return LabelQueue(_how(found), run.train_rows, tuple(rows))


def _helpers(engine: Engine, rows: Tensor, labels: Tensor) -> list[list[int]]:
    """Return the training examples that help labels [2 S], two of each of the rows [S], without itself."""
    stored, targets = read_part_rows(engine.run, TRAIN, rows.tolist() * 2)
    read = model_examples(engine.explainer.task, stored, targets, 0, engine.explainer.worker.device)
    examples = Examples(read.inputs, labels.to(targets), 0)
    found = engine.best(engine.queries(examples, "true"), [BY], k=HELPERS + 1).best[BY]
    lists = zip(found.indices.tolist(), found.scores.tolist(), rows.tolist() * 2, strict=True)
    return [
        [row for row, score in zip(ranked, scores, strict=True) if row != itself and score > 0][:HELPERS]
        for ranked, scores, itself in lists
    ]


def _row(run: Run, found: Suspects, place: int, helpers: Sequence[Sequence[int]], shown: int) -> QueueRow:
    label, suggested = int(found.labels[place]), int(found.suggested[place])
    other = suggested != label
    return QueueRow(
        train=int(found.rows[place]),
        suspicion=round(100 * float(found.suspicion[place]), 1),
        label=label,
        suggested=suggested if other else None,
        evidence=tuple(_evidence(run, found, place, helpers[place])),
        helpers_label=tuple(helpers[place]),
        helpers_suggested=tuple(helpers[shown + place]) if other else (),
        nearest=tuple(found.neighbours[place, :HELPERS].tolist()),
    )


def _evidence(run: Run, found: Suspects, place: int, helpers: Sequence[int]) -> list[Evidence]:
    """Return what speaks against a label: the model, the nearest examples, doubts about its helpers, self-influence."""
    label, suggested = int(found.labels[place]), int(found.suggested[place])
    model, near, named = found.probabilities[place], found.neighbour_labels[place], run.dataset.class_name
    told = [f"{named(label)} gets {_percent(float(model[label]))}"]
    counted = [f"{int((near == label).sum())} of {len(near)} are {named(label)}"]
    if suggested != label:
        told.append(f"{named(suggested)} gets {_percent(float(model[suggested]))}")
        counted.append(f"{int((near == suggested).sum())} are {named(suggested)}")
    evidence = [Evidence("Model", 1 - float(model[label]), ", ".join(told))]
    if len(near):
        evidence.append(Evidence("Nearest", float((near != label).double().mean()), ", ".join(counted)))
    if helpers:
        doubted = found.losses[list(helpers)] > HALF
        text = f"the model doubts {int(doubted.sum())} of the {len(helpers)} that help {named(label)} most"
        evidence.append(Evidence("Helpers", float(doubted.double().mean()), text))
    own, total = found.self_influence, len(found.self_influence)
    above = int((own > own[found.rows[place]]).sum())
    return [*evidence, Evidence("Self-influence", 1 - above / total, f"place {above + 1:,} of {total:,}")]


def _percent(share: float) -> str:
    if share < SMALL:
        return "< 1%"
    return "> 99%" if share > 1 - SMALL else f"{100 * share:.0f}%"


def _how(found: Suspects) -> str:
    """Return in words what suspicion is made of."""
    shared, near = f"{100 * found.agreement:.0f}%", found.neighbours.shape[1]
    return (
        f"Suspicion is a mean of two, from 0 to 100: an example's place by loss among the {len(found.rows):,} that the "
        f"model believes least, and the share of its {near} nearest training examples with another label. The second "
        f"counts {found.weight:.2g} times as much as the first: near examples share their label in {shared} of all "
        f"cases here. The label that is suggested has most support of the model and of the nearest together."
    )
