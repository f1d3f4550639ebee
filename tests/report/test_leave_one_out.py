"""Tables 2 and 4 as text on small inputs, correlations against known values, and a picture that shows the points."""

import io

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from pipeline.report.leave_one_out import (
    agreement_text,
    distinct_changes,
    draw_changes,
    leave_one_out_text,
    mean_and_error,
    median_ratio,
    pearson,
    slope,
    spearman,
)
from schemas.tables import LEAVE_ONE_OUT, METHODS

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


def table(rows: list[tuple[object, ...]] = ROWS) -> pa.Table:
    names = LEAVE_ONE_OUT.schema.names
    return pa.Table.from_pylist([dict(zip(names, row, strict=True)) for row in rows], schema=LEAVE_ONE_OUT.schema)


def test_tables_2_and_4_stand_beside_the_papers() -> None:
    assert leave_one_out_text(table(), paper="LR") == BESIDE_LR + agreement_text(table())


def test_without_figures_of_the_paper_ours_stand_alone() -> None:
    for paper in ("LSTM", "CNN", None):
        text = leave_one_out_text(table(), paper=paper)
        assert "paper" not in text
        assert ["IF", "0.0200", "±", "0.0100", "0.150", "±", "0.050", "0.800", "±", "0.000"] in [
            line.split() for line in text.splitlines()
        ]


def test_the_text_is_at_most_100_columns_wide() -> None:
    assert max(map(len, leave_one_out_text(table(), paper="LR").splitlines())) <= 100


def test_agreement_counts_each_pair_once() -> None:
    predicted, actual = distinct_changes(table())
    assert sorted(predicted) == [-0.005, 0.005, 0.005, 0.005, 0.005, 0.015]
    np.testing.assert_allclose(actual, 2 * predicted)
    assert agreement_text(table()) == (
        "Fig. 6: predicted against actual change of test loss, 6 distinct pairs\n"
        "Pearson's correlation 1.0000, Spearman's 1.0000, actual = 2.000 x predicted (least squares)\n"
        "median of actual / predicted 2.000"
    )


def test_means_have_standard_errors() -> None:
    found = mean_and_error(np.array([1.0, 2.0, 4.0, 5.0]))
    assert found.mean == 3.0
    assert found.error == pytest.approx(np.sqrt(10 / 3) / 2)
    assert mean_and_error(np.array([2.0])).error == 0


def test_correlations_against_known_values() -> None:
    x = np.random.default_rng(0).standard_normal(50)
    y = x + np.random.default_rng(1).standard_normal(50)
    assert pearson(x, y) == pytest.approx(np.corrcoef(x, y)[0, 1])
    assert spearman(x, np.exp(5 * x)) == pytest.approx(1)
    assert pearson(x, np.exp(5 * x)) < 0.9
    assert spearman(x, -y) == pytest.approx(-spearman(x, y))
    # Without ties: 1 - 6 sum d^2 / (n (n^2 - 1)), here d = (0, 1, 1, 0, 0).
    assert spearman(np.array([1.0, 2, 3, 4, 5]), np.array([10.0, 30, 20, 40, 50])) == pytest.approx(0.9)
    # Equal values share their mean rank: ranks 1, 2.5, 2.5, 4 against 1, 2, 3, 4.
    tied = spearman(np.array([0.0, 1, 1, 2]), np.array([0.0, 1, 2, 3]))
    assert tied == pytest.approx(np.corrcoef([1, 2.5, 2.5, 4], [1, 2, 3, 4])[0, 1])
    assert slope(x, 3 * x) == pytest.approx(3)
    assert np.isnan(pearson(x, np.ones(50)))
    assert median_ratio(np.array([1.0, 0, 2, 1]), np.array([3.0, 9, 2, 2])) == 2
    assert np.isnan(median_ratio(np.zeros(3), np.ones(3)))
    assert np.isnan(slope(np.zeros(3), np.ones(3)))


@pytest.mark.parametrize("scale", [1.0, 1e-6, 0.0])
def test_the_picture_shows_points_of_every_method(scale: float) -> None:
    rows = [(*row[:3], *(scale * value for value in row[3:5]), *row[5:]) for row in ROWS]
    picture = np.asarray(Image.open(io.BytesIO(draw_changes(table(rows)))).convert("RGB")).reshape(-1, 3)
    assert len(np.unique(picture, axis=0)) > 50
    without = [row for row in rows if row[0] != "influence"]
    other = np.asarray(Image.open(io.BytesIO(draw_changes(table(without)))).convert("RGB")).reshape(-1, 3)
    assert not np.array_equal(picture, other)
    assert draw_changes(table(rows)) == draw_changes(table(rows))


def test_every_method_is_shown_even_where_it_has_no_rows() -> None:
    text = leave_one_out_text(table([row for row in ROWS if row[0] == "influence"]), paper=None)
    assert all(f"\n{name} " in text for name in ("IF", "theta-RelatIF", "l-RelatIF", "nearest neighbour"))
    assert len(METHODS) == 4
