"""The paper's constants against its tables, copied here as text."""

import pytest

from relatif.pipeline.datasets.surnames import HELD_OUT
from relatif.pipeline.report.paper import (
    EXPERIMENT_OF_TASK,
    LEAVE_ONE_OUT_COUNT,
    OVERLAP_WITH_NEAREST,
    TABLE_1,
    TABLE_2,
    TABLE_3,
    TABLE_4,
    TEST_ACCURACY,
    MeanAndError,
    NamedExample,
    SetFigures,
)
from relatif.pipeline.tasks.task import BUILT_IN
from relatif.schemas.methods import METHODS

PAPER_TABLE_1 = """
IF | 2704 | 4984 | 0.168 ± 0.16 | 0.268 ± 0.21 | 2279 | 4869 | 0.431 ± 0.21 | 0.511 ± 0.21
theta-RelatIF | 8582 | 29317 | 0.929 ± 0.16 | 0.922 ± 0.17 | 8264 | 26381 | 0.918 ± 0.15 | 0.910 ± 0.16
l-RelatIF | 8776 | 30431 | 0.938 ± 0.16 | 0.930 ± 0.17 | 8336 | 26550 | 0.931 ± 0.14 | 0.920 ± 0.15
"""
"""Columns for LR, then for CNN: cardinality top-1 and top-5, probability top-1 and top-5."""


PAPER_TABLE_2 = """
IF | 0.0106 ± 0.0023 | 0.039 ± 0.003 | 0.879 ± 0.092
theta-RelatIF | 0.0084 ± 0.0027 | 0.004 ± 0.001 | 0.080 ± 0.033
l-RelatIF | 0.0086 ± 0.0028 | 0.004 ± 0.002 | 0.068 ± 0.036
nearest neighbour | 0.0048 ± 0.0025 | 0.003 ± 0.001 | 0.044 ± 0.024
"""

PAPER_TABLE_4 = """
IF | 0.311 ± 0.167 | 0.016 ± 0.008
theta-RelatIF | 0.459 ± 0.226 | 0.026 ± 0.010
l-RelatIF | 0.475 ± 0.229 | 0.027 ± 0.010
nearest neighbour | 0.304 ± 0.182 | 0.018 ± 0.009
"""


def figures(cells, k):
    place = (1, 5).index(k)
    mean, std = cells[2 + place].split("±")
    return SetFigures(int(cells[place]), float(mean), float(std))


@pytest.mark.parametrize(("experiment", "first"), [("LR", 1), ("CNN", 5)])
def test_table_1_is_the_papers(experiment, first):
    lines = [line.split("|") for line in PAPER_TABLE_1.strip().splitlines()]
    methods = {"IF": "influence", "theta-RelatIF": "theta_relatif", "l-RelatIF": "l_relatif"}
    expected = {(methods[line[0].strip()], k): figures(line[first : first + 4], k) for line in lines for k in (1, 5)}

    assert TABLE_1[experiment] == expected


@pytest.mark.parametrize(("ours", "theirs"), [(TABLE_2, PAPER_TABLE_2), (TABLE_4, PAPER_TABLE_4)])
def test_tables_2_and_4_are_the_papers(ours, theirs):
    methods = {method.title: name for name, method in METHODS.items()}
    expected = {}
    for line in theirs.strip().splitlines():
        name, *cells = line.split("|")
        expected[methods[name.strip()]] = tuple(MeanAndError(*map(float, cell.split("±"))) for cell in cells)

    assert ours == {"LR": expected}
    assert LEAVE_ONE_OUT_COUNT == 100


def test_every_experiment_has_all_facts():
    assert TEST_ACCURACY == {"LR": 0.9193, "CNN": 0.7322, "LSTM": 0.7145}
    assert EXPERIMENT_OF_TASK == {"mnist_logistic": "LR", "cifar_convnet": "CNN", "names_lstm": "LSTM"}
    assert set(EXPERIMENT_OF_TASK) == set(BUILT_IN) - {"toy_logistic"}
    assert set(TABLE_1) == set(OVERLAP_WITH_NEAREST) == {"LR", "CNN"}
    assert set(TABLE_3) == {"LSTM"}


def test_table_3_is_the_papers():
    by_influence = "Tokovoi, Nasikan, Bakai, Mihailutsa, Jugai, Mikhailutsa"  # all Russian, all taken for Japanese
    by_relatif = "Gasyukov, Tsayukov, Tzarakov, Tzayukov, Haryukov, Tsarakov"  # all Russian, all taken for Russian
    relatif = tuple(NamedExample(name, "Russian", "Russian") for name in by_relatif.split(", "))

    assert TABLE_3["LSTM"].examples == {
        "influence": tuple(NamedExample(name, "Russian", "Japanese") for name in by_influence.split(", ")),
        "theta_relatif": relatif,
        "l_relatif": relatif,
    }


def test_the_name_that_table_3_explains_is_held_out():
    assert (TABLE_3["LSTM"].text,) == HELD_OUT.names == ("Vasyukov",)
