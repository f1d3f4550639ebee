"""Explanations of tensors as people look at them: what ``relatif.fit`` explains, in a notebook.

Axes: M explained inputs, N training examples.
"""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from relatif.pipeline import inputs as batches
from relatif.pipeline.curvature.measurement import LOSS
from relatif.pipeline.datasets.label_column import UNLABELLED
from relatif.pipeline.inputs import Inputs
from relatif.pipeline.showing.shown import Media, Shown, ShownExample, ShownMethod, cell, number, probability
from relatif.schemas.methods import METHODS

INPUTS, EXAMPLES, HARMS = 10, 5, 3
"""How many inputs are shown, and training examples of each that help and that harm."""

MOST_COLUMNS = 50
"""Numbers of an input that are shown."""

SMALLEST_SIDE = 8
"""Pixels of a picture's side; of fewer, inputs are numbers."""

Columns = Mapping[str, Tensor]

Looks = Callable[[int], Media]
"""What an input looks like, by its row."""


def shown_inputs(
    scores: Mapping[str, Tensor], influence: Tensor, columns: tuple[Columns, Columns], inputs: tuple[Inputs, Inputs],
    measurement: str,
) -> list[Shown]:  # fmt: skip
    """Return the first inputs with their best examples by methods whose scores [M, N] are given.

    ``columns`` are those of explained inputs and training examples, ``inputs`` what the model reads of both.
    """
    test, train = columns
    of_tests, of_training = (_looks(each) for each in inputs)
    count = influence.shape[1]
    unit, what = ("nat", "raise the loss of this input") if measurement == LOSS else ("", f"lower its {measurement}")
    meaning = f"effect: leaving the example out would {what} by about so much (influence / n with n = {count:,})"
    found = []
    for row in range(min(INPUTS, len(influence))):
        methods = []
        for name, values in scores.items():
            order = values[row].sort(descending=True, stable=True).indices.tolist()
            harms = [place for place in reversed(order[-HARMS:]) if values[row, place] < 0]
            sides = [
                [_example(rank, place, values[row], influence[row] / count, train, of_training)
                 for rank, place in enumerate(some, start=1)]
                for some in (order[:EXAMPLES], harms)
            ]  # fmt: skip
            methods.append(ShownMethod(name, METHODS[name].title, *sides))
        found.append(Shown(f"input {row}", of_tests(row), _facts(test, row), methods, meaning, unit))
    return found


def _example(rank: int, place: int, scores: Tensor, effects: Tensor, train: Columns, media: Looks) -> ShownExample:
    label, predicted = _class(train, "label", place), _class(train, "predicted_label", place)
    numbers = [_numbers(train, name, place) for name in ("target", "prediction")]
    return ShownExample(
        rank,
        place,
        float(scores[place]),
        label=label or ", predicted ".join(filter(None, numbers)) or None,
        predicted=predicted if predicted != label else None,
        probability=_number(train, "probability", place),
        effect=float(effects[place]),
        media=media(place),
    )


def _facts(test: Columns, row: int) -> list[tuple[str, str]]:
    explained, predicted = _class(test, "explained_label", row), _class(test, "predicted_label", row)
    loss = _number(test, "loss", row)
    return [
        ("explained", explained or ""),
        ("probability", probability(_number(test, "probability", row))),
        ("the model says", predicted if predicted is not None and predicted != explained else ""),
        ("label", _class(test, "label", row) or ""),
        ("prediction", _numbers(test, "prediction", row)),
        ("target", _numbers(test, "target", row)),
        ("loss", "" if loss is None else f"{number(loss)} nats"),
    ]


def _class(columns: Columns, name: str, row: int) -> str | None:
    value = None if name not in columns else int(columns[name][row])
    return None if value is None or value == UNLABELLED else str(value)


def _number(columns: Columns, name: str, row: int) -> float | None:
    return float(columns[name][row]) if name in columns else None


def _numbers(columns: Columns, name: str, row: int) -> str:
    values = columns[name][row].reshape(-1).double() if name in columns else torch.zeros(0)
    return "" if bool(values.isnan().all()) else cell(values.tolist())


def _looks(inputs: Inputs) -> Looks:
    """Return what an input looks like, by its row: a picture, or its numbers by their places, or nothing."""
    tensors = batches.named(inputs)
    if isinstance(inputs, Tensor) and _are_pictures(inputs):
        values = inputs.detach()
        low, high = float(values.min()), float(values.max())
        # The smallest number of all is black and the largest white.
        return lambda row: Media(picture=_picture(values[row], low, high))
    if sum(each[0].numel() for each in tensors.values()) > MOST_COLUMNS:
        return lambda _: Media()
    return lambda row: Media(
        row=tuple(
            (f"{name} {place}".strip(" ."), cell(value))
            for name, each in tensors.items()
            for place, value in enumerate(each[row].reshape(-1).tolist())
        )
    )


def _are_pictures(inputs: Tensor) -> bool:
    """Return whether inputs are [N, rows, columns], or have 1 or 3 channels before these."""
    sides = inputs.ndim in (3, 4) and min(inputs.shape[-2:]) >= SMALLEST_SIDE
    return sides and (inputs.ndim == 3 or inputs.shape[1] in (1, 3))


def _picture(values: Tensor, low: float, high: float) -> NDArray[np.uint8]:
    pixels = ((values.double().cpu() - low) * (255 / (high - low or 1.0))).round().to(torch.uint8).numpy()
    if pixels.ndim == 2:
        return pixels
    return pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0))
