"""The paper's constants against its tables, copied here as text."""

import pytest

from pipeline.datasets.surnames import HELD_OUT
from pipeline.report.paper import (
    EXPERIMENT_OF_TASK,
    OVERLAP_WITH_NEAREST,
    TABLE_1,
    TABLE_3,
    TEST_ACCURACY,
    NamedExample,
    SetFigures,
)
from pipeline.tasks.task import BUILT_IN

PAPER_TABLE_1 = """
IF | 2704 | 4984 | 0.168 ± 0.16 | 0.268 ± 0.21 | 2279 | 4869 | 0.431 ± 0.21 | 0.511 ± 0.21
theta-RelatIF | 8582 | 29317 | 0.929 ± 0.16 | 0.922 ± 0.17 | 8264 | 26381 | 0.918 ± 0.15 | 0.910 ± 0.16
l-RelatIF | 8776 | 30431 | 0.938 ± 0.16 | 0.930 ± 0.17 | 8336 | 26550 | 0.931 ± 0.14 | 0.920 ± 0.15
"""
"""Columns for LR, then for CNN: cardinality top-1 and top-5, probability top-1 and top-5."""


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
