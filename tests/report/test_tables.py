"""Tables as text: exact expectations on small inputs."""

from itertools import product

import pyarrow as pa
import pytest

from relatif.pipeline.report.tables import overlap_text, table1_text
from relatif.schemas.methods import METHODS, PAPER_METHODS
from relatif.schemas.tables import INFLUENCE_SETS, OVERLAP

WIDTH = 100

TABLE_BESIDE_LR = """\
Table 1: distinct training examples in the top-k of 10,000 test inputs
(prob.: the model's probability of their own label, mean ± std)

method                    card. top-1  card. top-5   prob. top-1   prob. top-5
IF                 ours         2,475        4,866  0.176 ± 0.16  0.264 ± 0.21
                   paper        2,704        4,984  0.168 ± 0.16  0.268 ± 0.21
theta-RelatIF      ours         8,493       28,448  0.926 ± 0.17  0.920 ± 0.18
                   paper        8,582       29,317  0.929 ± 0.16  0.922 ± 0.17
l-RelatIF          ours         8,756       30,012  0.926 ± 0.17  0.919 ± 0.18
                   paper        8,776       30,431  0.938 ± 0.16  0.930 ± 0.17
nearest neighbour  ours         7,000       25,000  1.000 ± 0.00  0.950 ± 0.05
                   paper            -            -             -             -

test accuracy 92.47% (paper 91.93%)"""

TABLE_ALONE = """\
Table 1: distinct training examples in the top-k of 10,000 test inputs
(prob.: the model's probability of their own label, mean ± std)

method             card. top-1  card. top-5   prob. top-1   prob. top-5
IF                       2,475        4,866  0.176 ± 0.16  0.264 ± 0.21
theta-RelatIF            8,493       28,448  0.926 ± 0.17  0.920 ± 0.18
l-RelatIF                8,756       30,012  0.926 ± 0.17  0.919 ± 0.18
nearest neighbour        7,000       25,000  1.000 ± 0.00  0.950 ± 0.05"""

OVERLAP_BESIDE_CNN = """\
Section 4.3: share of the top-k in common with the k nearest neighbours

method         top-1  top-5  top-10  top-20  paper, k from 1 to 20
IF              0.7%   0.8%    1.0%    1.2%  0.67-1.24%
theta-RelatIF   5.6%   4.5%    3.5%    2.6%  2.6-5.6%, decreasing with k
l-RelatIF       5.5%   4.4%    3.4%    2.5%  2.6-5.6%, decreasing with k"""

FIGURES = [
    (2475, 0.1759, 0.161),
    (4866, 0.26412, 0.2091),
    (8493, 0.926, 0.17),
    (28448, 0.92, 0.18),
    (8756, 0.926, 0.17),
    (30012, 0.919, 0.18),
    (7000, 1.0, 0.0),
    (25000, 0.95, 0.05),
]


def influence_sets(ks=(1, 5), test_count=10_000, methods=PAPER_METHODS):
    keys = list(product(methods, ks))
    repeated = FIGURES * (len(keys) // len(FIGURES) + 1)
    rows = [
        {
            "method": method,
            "k": k,
            "test_count": test_count,
            "cardinality": size,
            "cardinality_ratio": size / (k * test_count),
            "probability_mean": mean,
            "probability_std": std,
        }
        for (method, k), (size, mean, std) in zip(keys, repeated, strict=False)
    ]
    return pa.Table.from_pylist(rows, schema=INFLUENCE_SETS.schema)


def overlap(shares, ks=(1, 5, 10, 20)):
    rows = [
        {"method_a": a, "method_b": b, "k": k, "overlap": share}
        for (a, b), values in shares.items()
        for k, share in zip(ks, values, strict=True)
    ]
    return pa.Table.from_pylist(rows, schema=OVERLAP.schema)


OVERLAPS = {
    ("influence", "l_relatif"): (0.9, 0.9, 0.9, 0.9),
    ("influence", "nearest_neighbour"): (0.007, 0.0081, 0.01, 0.012),
    ("theta_relatif", "nearest_neighbour"): (0.056, 0.045, 0.035, 0.026),
    ("l_relatif", "nearest_neighbour"): (0.055, 0.044, 0.034, 0.025),
}


def test_table_1_stands_beside_the_papers():
    assert table1_text(influence_sets(), test_accuracy=0.92473, paper="LR") == TABLE_BESIDE_LR


def test_rows_may_come_in_any_order():
    sets = influence_sets()

    assert table1_text(sets.take(list(range(7, -1, -1))), test_accuracy=0.92473, paper="LR") == TABLE_BESIDE_LR


def test_without_figures_of_the_paper_ours_stand_alone():
    assert table1_text(influence_sets(), test_accuracy=None, paper=None) == TABLE_ALONE


def test_an_experiment_without_a_table_1_has_the_papers_accuracy_alone():
    sets = influence_sets(test_count=3009)

    text = table1_text(sets, test_accuracy=0.8, paper="LSTM")

    ours = table1_text(sets, test_accuracy=None, paper=None)
    assert text == f"{ours}\n\ntest accuracy 80.00% (paper 71.45%)"
    assert overlap_text(overlap(OVERLAPS), paper="LSTM") == overlap_text(overlap(OVERLAPS), paper=None)


def test_the_convnets_figures_are_its_own():
    text = table1_text(influence_sets(), test_accuracy=0.7, paper="CNN")

    assert "paper        2,279        4,869  0.431 ± 0.21  0.511 ± 0.21" in text
    assert text.endswith("test accuracy 70.00% (paper 73.22%)")


def test_another_number_of_test_inputs_is_said():
    remark = "The paper's sets are over 10,000 test inputs, so the cardinalities do not compare."

    assert table1_text(influence_sets(test_count=500), test_accuracy=None, paper="LR").endswith("\n\n" + remark)
    assert remark not in table1_text(influence_sets(test_count=500), test_accuracy=None, paper=None)


def test_other_k_have_no_figures_in_the_paper():
    lines = table1_text(influence_sets(ks=(2, 5)), test_accuracy=None, paper="LR").splitlines()

    assert lines[5] == "                   paper            -        4,984             -  0.268 ± 0.21"


def test_a_missing_figure_is_a_dash():
    lines = table1_text(influence_sets().slice(1), test_accuracy=None, paper=None).splitlines()

    assert lines[4] == "IF                           -        4,866             -  0.264 ± 0.21"


def test_a_probability_that_a_task_does_not_say_is_a_dash():
    rows = [{**row, "probability_mean": None, "probability_std": None} for row in influence_sets().to_pylist()]

    text = table1_text(pa.Table.from_pylist(rows, INFLUENCE_SETS.schema), test_accuracy=None, paper=None)

    assert text.splitlines()[4].split() == ["IF", "2,475", "4,866", "-", "-"]


@pytest.mark.parametrize("paper", ["LR", None])
def test_table_1_shows_the_papers_methods_and_those_that_were_scored_without_opponents(paper):
    scored = ("influence", "gradient_cosine", "negative_influence")

    lines = table1_text(influence_sets(methods=scored), test_accuracy=None, paper=paper).splitlines()[4:]

    titles = ["IF", "theta-RelatIF", "l-RelatIF", "nearest neighbour", "gradient cosine"]
    ours = {line.split("  ")[0]: line.split() for line in lines if line and not line.startswith(" ")}
    assert list(ours) == titles
    assert [title for title, cells in ours.items() if "-" in cells] == titles[1:4], "they were not scored"
    theirs = [line.split()[0] for line in lines if line.startswith(" ")]
    assert theirs == ["paper"] * (4 if paper else 0), "it has no figures of other methods"


def test_overlap_shows_the_papers_methods_and_those_that_were_scored():
    shares = {
        ("influence", "nearest_neighbour"): (0.5,),
        ("nearest_neighbour", "gradient_cosine"): (0.25,),
        ("nearest_neighbour", "negative_influence"): (0.125,),
    }

    lines = overlap_text(overlap(shares, (1,)), paper="CNN").splitlines()[3:]

    assert [line.split() for line in lines] == [
        ["IF", "50.0%", "0.67-1.24%"],
        ["theta-RelatIF", "-", "2.6-5.6%,", "decreasing", "with", "k"],
        ["l-RelatIF", "-", "2.6-5.6%,", "decreasing", "with", "k"],
        ["gradient", "cosine", "25.0%"],
    ]


def test_overlap_stands_beside_the_papers_range():
    assert overlap_text(overlap(OVERLAPS), paper="CNN") == OVERLAP_BESIDE_CNN


def test_overlap_with_the_logistic_regressions_range():
    lines = overlap_text(overlap(OVERLAPS), paper="LR").splitlines()

    assert lines[3].endswith("  1.2%  1.3-2.7%")
    assert lines[5].endswith("  2.5%  26-35%, increasing with k")


def test_overlap_without_figures_of_the_paper():
    assert overlap_text(overlap(OVERLAPS), paper=None).splitlines()[2:4] == [
        "method         top-1  top-5  top-10  top-20",
        "IF              0.7%   0.8%    1.0%    1.2%",
    ]


@pytest.mark.parametrize("paper", ["LR", "CNN", "LSTM", None])
def test_many_k_stay_within_the_width(paper):
    ks = (1, 2, 5, 10, 100, 200, 1000)
    shares = {pair: [1.0] * len(ks) for pair in OVERLAPS}
    texts = [
        table1_text(influence_sets(ks=ks, test_count=10**9, methods=METHODS), test_accuracy=0.5, paper=paper),
        overlap_text(overlap(shares, ks), paper=paper),
    ]

    for text in texts:
        assert max(map(len, text.splitlines())) <= WIDTH
        assert not any(line != line.rstrip() for line in text.splitlines())
        assert all(f"top-{k}" in text for k in ks)
