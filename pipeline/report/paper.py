"""The paper's measurements: Barshan, Brunet, Dziugaite, "RelatIF", AISTATS 2020. All facts of it that are printed."""

from collections.abc import Mapping
from dataclasses import dataclass

TEST_COUNT = 10_000
"""Test inputs of both experiments of Table 1."""


@dataclass(frozen=True)
class SetFigures:
    """A cell of Table 1: size of a set of top-k examples, mean and standard deviation of their probabilities.

    Both are None where the model gives no probabilities.
    """

    cardinality: int
    probability_mean: float | None
    probability_std: float | None


@dataclass(frozen=True)
class OverlapRange:
    """Overlap with the k nearest neighbours for k in 1, 5, 10, 20 (section 4.3), as shares, and its trend with k."""

    low: float
    high: float
    trend: str = ""


@dataclass(frozen=True)
class MeanAndError:
    """A cell of Tables 2 and 4: a mean over test inputs and its standard error."""

    mean: float
    error: float


@dataclass(frozen=True)
class NamedExample:
    """A training example as Table 3 lists it: its text, its class and the class that the model finds most probable."""

    text: str
    label: str
    predicted_label: str


@dataclass(frozen=True)
class TextExplanation:
    """The test input of Table 3 and, for every method, the training examples that explain it, best first."""

    text: str
    examples: Mapping[str, tuple[NamedExample, ...]]


EXPERIMENT_OF_TASK: Mapping[str, str] = {"mnist_logistic": "LR", "cifar_convnet": "CNN", "names_lstm": "LSTM"}
"""The paper's name of the experiment that a built-in task repeats."""

TEST_ACCURACY: Mapping[str, float] = {"LR": 0.9193, "CNN": 0.7322, "LSTM": 0.7145}
"""Footnotes, as shares."""

TABLE_1: Mapping[str, Mapping[tuple[str, int], SetFigures]] = {
    "LR": {
        ("influence", 1): SetFigures(2704, 0.168, 0.16),
        ("influence", 5): SetFigures(4984, 0.268, 0.21),
        ("theta_relatif", 1): SetFigures(8582, 0.929, 0.16),
        ("theta_relatif", 5): SetFigures(29317, 0.922, 0.17),
        ("l_relatif", 1): SetFigures(8776, 0.938, 0.16),
        ("l_relatif", 5): SetFigures(30431, 0.930, 0.17),
    },
    "CNN": {
        ("influence", 1): SetFigures(2279, 0.431, 0.21),
        ("influence", 5): SetFigures(4869, 0.511, 0.21),
        ("theta_relatif", 1): SetFigures(8264, 0.918, 0.15),
        ("theta_relatif", 5): SetFigures(26381, 0.910, 0.16),
        ("l_relatif", 1): SetFigures(8336, 0.931, 0.14),
        ("l_relatif", 5): SetFigures(26550, 0.920, 0.15),
    },
}
"""Table 1: the figures of an experiment by method and k."""

_RELATIF_OVERLAP = {
    "LR": OverlapRange(0.26, 0.35, "increasing with k"),
    "CNN": OverlapRange(0.026, 0.056, "decreasing with k"),
}

OVERLAP_WITH_NEAREST: Mapping[str, Mapping[str, OverlapRange]] = {
    "LR": {
        "influence": OverlapRange(0.013, 0.027),
        "theta_relatif": _RELATIF_OVERLAP["LR"],
        "l_relatif": _RELATIF_OVERLAP["LR"],
    },
    "CNN": {
        "influence": OverlapRange(0.0067, 0.0124),
        "theta_relatif": _RELATIF_OVERLAP["CNN"],
        "l_relatif": _RELATIF_OVERLAP["CNN"],
    },
}
"""Section 4.3, where "RelatIF" does not say which of the two."""

_BY_INFLUENCE = ("Tokovoi", "Nasikan", "Bakai", "Mihailutsa", "Jugai", "Mikhailutsa")
_BY_RELATIF = ("Gasyukov", "Tsayukov", "Tzarakov", "Tzayukov", "Haryukov", "Tsarakov")
_RELATIF_EXAMPLES = tuple(NamedExample(name, "Russian", "Russian") for name in _BY_RELATIF)

TABLE_3: Mapping[str, TextExplanation] = {
    "LSTM": TextExplanation(
        "Vasyukov",
        {
            "influence": tuple(NamedExample(name, "Russian", "Japanese") for name in _BY_INFLUENCE),
            "theta_relatif": _RELATIF_EXAMPLES,
            "l_relatif": _RELATIF_EXAMPLES,
        },
    )
}
"""Table 3, where "RelatIF" does not say which of the two."""

LEAVE_ONE_OUT_COUNT = 100
"""Test inputs of Tables 2 and 4."""

TABLE_2: Mapping[str, Mapping[str, tuple[MeanAndError, ...]]] = {
    "LR": {
        "influence": (MeanAndError(0.0106, 0.0023), MeanAndError(0.039, 0.003), MeanAndError(0.879, 0.092)),
        "theta_relatif": (MeanAndError(0.0084, 0.0027), MeanAndError(0.004, 0.001), MeanAndError(0.080, 0.033)),
        "l_relatif": (MeanAndError(0.0086, 0.0028), MeanAndError(0.004, 0.002), MeanAndError(0.068, 0.036)),
        "nearest_neighbour": (MeanAndError(0.0048, 0.0025), MeanAndError(0.003, 0.001), MeanAndError(0.044, 0.024)),
    },
}
"""Leave-one-out: change of test loss, norm of parameter change, root of the sum of squared training-loss changes."""

TABLE_4: Mapping[str, Mapping[str, tuple[MeanAndError, ...]]] = {
    "LR": {
        "influence": (MeanAndError(0.311, 0.167), MeanAndError(0.016, 0.008)),
        "theta_relatif": (MeanAndError(0.459, 0.226), MeanAndError(0.026, 0.010)),
        "l_relatif": (MeanAndError(0.475, 0.229), MeanAndError(0.027, 0.010)),
        "nearest_neighbour": (MeanAndError(0.304, 0.182), MeanAndError(0.018, 0.009)),
    },
}
"""The change of test loss divided by the parameters' change and by the training losses', mean over test inputs."""
