"""Leave-one-out retraining beside the paper's: Tables 2 and 4 as text, and Fig. 6 as figures.

Axes: R rows of the table, M test inputs of a method.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from torch import Tensor

from relatif.pipeline.influence.correlation import median_ratio, pearson, slope, spearman
from relatif.pipeline.report.paper import LEAVE_ONE_OUT_COUNT, TABLE_2, TABLE_4, MeanAndError
from relatif.pipeline.report.tables import aligned
from relatif.schemas.methods import METHODS, PAPER_METHODS, in_order

Values = NDArray[np.float64]

CHANGES = {
    "test_loss_change": "change of test loss",
    "parameter_change": "norm of parameter change",
    "train_loss_change": "change of training loss",
}
"""Columns of Table 2; the last is the root of the sum of squares."""

RATIOS = {"parameter_change": "test-loss / parameter change", "train_loss_change": "test-loss / training-loss change"}
"""Columns of Table 4, by what the change of test loss is divided by, for each test input."""

PREDICTED, CORRECTED, ACTUAL = "predicted_test_loss_change", "corrected_test_loss_change", "test_loss_change"

SIGNIFICANT = 4
"""Digits of a slope, which has any order of magnitude for the identity's predictions."""


def leave_one_out_text(table: pa.Table, predictions: pa.Table, *, paper: str | None) -> str:
    """Return Tables 2 and 4 beside the paper's for the experiment ``paper``, and the agreement of Fig. 6."""
    tests = len(pc.unique(table["test_index"]))
    removed = len(pc.unique(table["train_index"]))
    parts = [
        f"Table 2: the best training example left out, {tests:,} test inputs, {removed:,} retrainings\n"
        f"(mean ± standard error; training loss: root of the sum of squared changes)",
        _block(table, list(CHANGES), list(CHANGES.values()), TABLE_2.get(paper or "")),
        "Table 4: ratios of Table 2's quantities, for each test input (mean ± standard error)",
        _block(table, [f"ratio {name}" for name in RATIOS], list(RATIOS.values()), TABLE_4.get(paper or "")),
        agreement_text(predictions),
    ]
    if paper in TABLE_2 and tests != LEAVE_ONE_OUT_COUNT:
        parts.insert(4, f"The paper's figures are over {LEAVE_ONE_OUT_COUNT} test inputs.")
    return "\n\n".join(parts)


def agreement_text(predictions: pa.Table) -> str:
    """Return how predicted and actual changes of test loss agree, by curvature: of the first order, and corrected.

    Tables of before corrected changes were written have the first order alone.
    """
    rows = [["curvature", "damping", "pairs", "Pearson's", "Spearman's", "slope", "median ratio"]]
    for curvature in curvatures_of(predictions):
        mine = predictions.filter(pc.equal(predictions["curvature"], curvature))
        rows.append([curvature, f"{mine['damping'][0].as_py():g}", *_agreement(mine, PREDICTED)])
        if CORRECTED in mine.schema.names:
            some = mine.filter(pc.is_valid(mine[CORRECTED]))
            rows += [["  corrected", "", *_agreement(some, CORRECTED)]] if len(some) else []
    return (
        "Fig. 6: predicted against actual change of test loss, over distinct pairs\n"
        "(slope: of actual over predicted by least squares through 0; ratio: actual / predicted;\n"
        "the identity only orders changes: its predictions have another scale;\n"
        "corrected: with the curvature of the example that is left out, at the changed outputs)\n\n"
        + aligned(rows, "<" + ">" * (len(rows[0]) - 1))
    )


def _agreement(table: pa.Table, column: str) -> list[str]:
    predicted, actual = changes_of(table, column)
    measures = [f"{float(measure(predicted, actual)):.4f}" for measure in (pearson, spearman)]
    measures += [f"{measure(predicted, actual):#.{SIGNIFICANT}g}".rstrip(".") for measure in (slope, median_ratio)]
    return [f"{len(table):,}", *measures]


def curvatures_of(predictions: pa.Table) -> list[str]:
    """Return the curvatures of the table, in its order."""
    return list(pc.unique(predictions["curvature"]).to_pylist())


def changes_of(table: pa.Table, column: str = PREDICTED) -> tuple[Tensor, Tensor]:
    """Return the predicted and the actual changes of some rows, [R] float64 each."""
    predicted, actual = (torch.from_numpy(_column(table, name).copy()) for name in (column, ACTUAL))
    return predicted, actual


def mean_and_error(values: Values) -> MeanAndError:
    """Return the mean of [M] and its standard error, ``std / sqrt(M)`` with divisor M - 1 (0 for one value)."""
    error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else 0.0
    return MeanAndError(float(values.mean()), float(error))


def _block(
    table: pa.Table, columns: Sequence[str], titles: Sequence[str], theirs: Mapping[str, Sequence[MeanAndError]] | None
) -> str:
    rows = [["method", "", *titles]]
    for method in in_order([*pc.unique(table["method"]).to_pylist(), *PAPER_METHODS]):
        mine = table.filter(pc.equal(table["method"], method))
        ours = [_cell(mean_and_error(_column(mine, name)), name) for name in columns] if len(mine) else []
        rows.append([METHODS[method].title, "" if theirs is None else "ours", *(ours or ["-"] * len(columns))])
        if theirs is not None and method in theirs:
            rows.append(["", "paper", *map(_cell, theirs[method], columns)])
    return aligned(rows, "<<" + ">" * len(columns))


def _column(table: pa.Table, name: str) -> Values:
    if name.startswith("ratio "):
        return _column(table, "test_loss_change") / _column(table, name.removeprefix("ratio "))
    return np.asarray(table[name].to_numpy(), np.float64)


def _cell(figures: MeanAndError, column: str) -> str:
    digits = 4 if column == "test_loss_change" else 3  # the paper's
    return f"{figures.mean:.{digits}f} ± {figures.error:.{digits}f}"
