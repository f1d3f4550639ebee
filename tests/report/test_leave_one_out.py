"""Tables 2 and 4 and the agreement of Fig. 6 as text on small inputs, correlations against known values."""

from collections.abc import Callable, Mapping

import numpy as np
import pyarrow as pa
import pytest

from relatif.pipeline.report.leave_one_out import (
    agreement_text,
    leave_one_out_text,
    mean_and_error,
)
from relatif.schemas.columns import TableSpec
from relatif.schemas.tables import LEAVE_ONE_OUT, LEAVE_ONE_OUT_PREDICTIONS

BESIDE_LR = """\
Table 2: the best training example left out, 2 test inputs, 5 retrainings
(mean ± standard error; training loss: root of the sum of squared changes)

method                    change of test loss  norm of parameter change  change of training loss
IF                 ours       0.0200 ± 0.0100             0.150 ± 0.050            0.800 ± 0.000
                   paper      0.0106 ± 0.0023             0.039 ± 0.003            0.879 ± 0.092
theta-RelatIF      ours       0.0100 ± 0.0000             0.010 ± 0.000            0.050 ± 0.000
                   paper      0.0084 ± 0.0027             0.004 ± 0.001            0.080 ± 0.033
l-RelatIF          ours       0.0100 ± 0.0000             0.010 ± 0.000            0.050 ± 0.000
                   paper      0.0086 ± 0.0028             0.004 ± 0.002            0.068 ± 0.036
nearest neighbour  ours       0.0000 ± 0.0100             0.020 ± 0.000            0.040 ± 0.000
                   paper      0.0048 ± 0.0025             0.003 ± 0.001            0.044 ± 0.024

Table 4: ratios of Table 2's quantities, for each test input (mean ± standard error)

method                    test-loss / parameter change  test-loss / training-loss change
IF                 ours                  0.125 ± 0.025                     0.025 ± 0.012
                   paper                 0.311 ± 0.167                     0.016 ± 0.008
theta-RelatIF      ours                  1.000 ± 0.000                     0.200 ± 0.000
                   paper                 0.459 ± 0.226                     0.026 ± 0.010
l-RelatIF          ours                  1.000 ± 0.000                     0.200 ± 0.000
                   paper                 0.475 ± 0.229                     0.027 ± 0.010
nearest neighbour  ours                  0.000 ± 0.500                     0.000 ± 0.250
                   paper                 0.304 ± 0.182                     0.018 ± 0.009

The paper's figures are over 100 test inputs.

"""

ROWS = [
    ("influence", 3, 50, 0.005, 0.01, 0.1, 0.8),
    ("theta_relatif", 3, 51, 0.005, 0.01, 0.01, 0.05),
    ("l_relatif", 3, 51, 0.005, 0.01, 0.01, 0.05),
    ("nearest_neighbour", 3, 52, -0.005, -0.01, 0.02, 0.04),
    ("influence", 8, 50, 0.015, 0.03, 0.2, 0.8),
    ("theta_relatif", 8, 53, 0.005, 0.01, 0.01, 0.05),
    ("l_relatif", 8, 53, 0.005, 0.01, 0.01, 0.05),
    ("nearest_neighbour", 8, 54, 0.005, 0.01, 0.02, 0.04),
]


AGREEMENT = """\
Fig. 6: predicted against actual change of test loss, over distinct pairs
(slope: of actual over predicted by least squares through 0; ratio: actual / predicted;
the identity only orders changes: its predictions have another scale;
corrected: with the curvature of the example that is left out, at the changed outputs)

curvature    damping  pairs  Pearson's  Spearman's      slope  median ratio
exact          0.001      6     1.0000      1.0000      2.000         2.000
  corrected               5     1.0000      1.0000      1.000         1.000
identity           1      6    -1.0000     -1.0000  0.0001000     0.0001000"""
"""Where p is predicted, 2 p happens, 0.01 on average; in the last line about 100 is predicted, falling with p."""


def table(rows: list[tuple[object, ...]] = ROWS) -> pa.Table:
    return _table(LEAVE_ONE_OUT, rows)


def predictions(of_curvatures: Mapping[str, Callable[[float], float]]) -> pa.Table:
    """Return the table by curvatures that predict a function of the ``predicted`` change of each pair of ROWS."""
    changes = {(row[1], row[2]): (row[3], row[4]) for row in ROWS}
    return _table(
        LEAVE_ONE_OUT_PREDICTIONS,
        [
            (name, 1.0 if name == "identity" else 0.001, *pair, function(predicted), actual)
            for name, function in of_curvatures.items()
            for pair, (predicted, actual) in sorted(changes.items())
        ],
    )


def _table(spec: TableSpec, rows: list[tuple[object, ...]]) -> pa.Table:
    names = [name for name in spec.schema.names if name != "corrected_test_loss_change"]
    return pa.Table.from_pylist([dict(zip(names, row, strict=True)) for row in rows], schema=spec.schema)


PREDICTIONS = predictions({"exact": lambda change: change})


def test_tables_2_and_4_stand_beside_the_papers() -> None:
    assert leave_one_out_text(table(), PREDICTIONS, paper="LR") == BESIDE_LR + agreement_text(PREDICTIONS)


def test_without_figures_of_the_paper_ours_stand_alone() -> None:
    for paper in ("LSTM", "CNN", None):
        text = leave_one_out_text(table(), PREDICTIONS, paper=paper)
        assert "paper" not in text
        assert ["IF", "0.0200", "±", "0.0100", "0.150", "±", "0.050", "0.800", "±", "0.000"] in [
            line.split() for line in text.splitlines()
        ]


def test_the_text_is_at_most_100_columns_wide() -> None:
    assert max(map(len, leave_one_out_text(table(), PREDICTIONS, paper="LR").splitlines())) <= 100


def test_agreement_has_a_line_for_each_curvature_and_its_corrected_changes() -> None:
    table = predictions({"exact": lambda change: change, "identity": lambda change: 100 - 0.01 * change})
    place = table.schema.get_field_index("corrected_test_loss_change")
    right = [*table["test_loss_change"][:5].to_pylist(), *[None] * 7]
    corrected = table.set_column(place, table.schema.field(place), pa.array(right, pa.float64()))
    assert agreement_text(corrected) == AGREEMENT
    older = agreement_text(table.drop(["corrected_test_loss_change"])).splitlines()
    # Fewer words make columns narrower.
    assert [line.split() for line in older] == [
        line.split() for line in AGREEMENT.splitlines() if not line.startswith("  corrected")
    ]


def test_slopes_and_ratios_are_told_apart() -> None:
    pairs = [(1.0, 2.0), (1.0, 2.0), (10.0, -50.0)]
    rows = [("kfac", 0.5, 0, train, *pair) for train, pair in enumerate(pairs)]
    line = agreement_text(_table(LEAVE_ONE_OUT_PREDICTIONS, rows)).splitlines()[-1].split()
    # (1 x 2 + 1 x 2 - 10 x 50) / (1 + 1 + 100), and the middle one of 2, 2 and -5.
    assert line == ["kfac", "0.5", "3", "-1.0000", "-1.0000", "-4.863", "2.000"]


def test_means_have_standard_errors() -> None:
    found = mean_and_error(np.array([1.0, 2.0, 4.0, 5.0]))
    assert found.mean == 3.0
    assert found.error == pytest.approx(np.sqrt(10 / 3) / 2)
    assert mean_and_error(np.array([2.0])).error == 0


def methods_in(text: str) -> list[str]:
    """Return the titles of methods in the order of Table 2's lines."""
    lines = text.partition("Table 4")[0].splitlines()[4:]
    return [line.split("  ")[0] for line in lines if line and not line.startswith(" ")]


PAPERS = ["IF", "theta-RelatIF", "l-RelatIF", "nearest neighbour"]


@pytest.mark.parametrize("paper", ["LR", None])
def test_the_papers_methods_are_shown_even_where_they_have_no_rows(paper: str | None) -> None:
    alone = table([row for row in ROWS if row[0] == "influence"])
    assert methods_in(leave_one_out_text(alone, PREDICTIONS, paper=paper)) == PAPERS


@pytest.mark.parametrize("paper", ["LR", None])
def test_other_methods_are_shown_where_they_have_rows(paper: str | None) -> None:
    more = [(name, *ROWS[0][1:]) for name in ("negative_influence", "gradient_cosine")]
    text = leave_one_out_text(table([*more, *ROWS]), PREDICTIONS, paper=paper)
    assert methods_in(text) == [*PAPERS, "gradient cosine", "negative IF"]
    assert max(map(len, text.splitlines())) <= 100
    first, second = text.partition("\nnegative IF ")[2].splitlines()[:2]
    assert first.split() == [
        *["ours"] * (paper is not None),
        *["0.0100", "±", "0.0000", "0.100", "±", "0.000", "0.800", "±", "0.000"],
    ]
    assert second == "", "the paper says nothing of it"
