"""The linear datamodeling score as text, and a picture that shows every method's curve."""

import io
from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import torch
from PIL import Image
from torch import Tensor

from relatif.pipeline.report.linear_datamodeling import draw_correlations, linear_datamodeling_text, sums_and_losses
from relatif.schemas.methods import METHODS
from relatif.schemas.tables import LINEAR_DATAMODELING, LINEAR_DATAMODELING_SCORE

METHODS_ADDED_UP = tuple(name for name, method in METHODS.items() if method.additive)


def test_every_method_stands_with_its_interval() -> None:
    rows = [
        ("influence", 1000, 100, 0.8714, 0.8601, 0.8806),
        ("theta_relatif", 998, 100, 0.5, 0.4, 0.6),
        ("l_relatif", 1000, 100, -0.25, -0.5, 0.0),
    ]
    names = LINEAR_DATAMODELING_SCORE.schema.names
    table = pa.Table.from_pylist(
        [dict(zip(names, row, strict=True)) for row in rows], schema=LINEAR_DATAMODELING_SCORE.schema
    )
    said = {
        "trainings": "2",
        "subsets": "50 of 100 training examples each, seed 0",
        "curvature": "kfac",
        "damping": "0.1",
    }
    assert linear_datamodeling_text(table, said) == (
        "linear_datamodeling: kfac, damping 0.1; 100 subsets, 2 model(s) of each\n"
        "(50 of 100 training examples each, seed 0; score: mean rank correlation of summed scores with -loss)\n"
        "\n"
        "method         test inputs   score     95% interval\n"
        "IF                   1,000   0.871   0.860 to 0.881\n"
        "theta-RelatIF          998   0.500   0.400 to 0.600\n"
        "l-RelatIF            1,000  -0.250  -0.500 to 0.000"
    )


def made() -> tuple[dict[str, Tensor], Tensor]:
    """Return sums of scores by method, and losses, [M, S] each."""
    random = torch.Generator().manual_seed(0)
    losses = torch.rand(9, 20, generator=random, dtype=torch.float64)
    return {name: torch.rand(9, 20, generator=random, dtype=torch.float64) for name in METHODS_ADDED_UP}, losses


def table_of(sums: Mapping[str, Tensor], losses: Tensor) -> pa.Table:
    """Return the table ``linear_datamodeling`` of them, methods and subsets in turn."""
    tests, subsets = losses.shape
    rows = [
        {
            "method": method,
            "test_index": test,
            "subset": subset,
            "score_sum": float(values[test, subset]),
            "loss": float(losses[test, subset]),
        }
        for subset in range(subsets)
        for test in range(tests)
        for method, values in sums.items()
    ]
    return pa.Table.from_pylist(rows, schema=LINEAR_DATAMODELING.schema)


def test_the_table_has_the_sums_and_losses_whatever_the_order_of_its_rows() -> None:
    expected, losses = made()
    table = table_of(expected, losses)
    order = np.random.default_rng(0).permutation(len(table))
    for rows in (table, table.take(order)):
        sums, found = sums_and_losses(rows)
        assert list(sums) == list(METHODS_ADDED_UP)
        assert torch.equal(found, losses)
        assert all(torch.equal(sums[name], values) for name, values in expected.items())


def test_the_picture_changes_with_every_methods_scores() -> None:
    sums, losses = made()
    pictures = [draw_correlations(table_of(sums, losses))]
    pictures += [draw_correlations(table_of({**sums, name: values.flip(1)}, losses)) for name, values in sums.items()]
    assert len(set(pictures)) == 5
    assert draw_correlations(table_of(sums, losses)) == pictures[0]
    certain = torch.cat([losses, torch.zeros(1, 20)])
    more = {name: torch.cat([values, torch.ones(1, 20)]) for name, values in sums.items()}
    assert draw_correlations(table_of(more, certain)) == pictures[0], "an input without a correlation is left out"
    pixels = np.asarray(Image.open(io.BytesIO(pictures[0])).convert("RGB")).reshape(-1, 3)
    assert len(np.unique(pixels, axis=0)) > 50
