"""The registry of methods against the definitions, spelled out; names come in its order, unknown ones are refused."""

from dataclasses import FrozenInstanceError

import pytest

from relatif.schemas.errors import ConfigurationError
from relatif.schemas.methods import (
    DEFAULT_METHODS,
    DISTANCE,
    GRADIENT,
    INFLUENCE,
    METHODS,
    PAPER_METHODS,
    explaining,
    in_order,
    methods_of,
)
from relatif.schemas.tables import TRAIN_EXAMPLES

ORDER = ("influence", "theta_relatif", "l_relatif", "nearest_neighbour", "gradient_cosine", "negative_influence")

QUOTIENTS = {
    "influence": (1, INFLUENCE, None, False, False),
    "theta_relatif": (1, INFLUENCE, "theta_norm", False, False),
    "l_relatif": (1, INFLUENCE, "self_influence", True, False),
    "nearest_neighbour": (-1, DISTANCE, None, False, False),
    "gradient_cosine": (1, GRADIENT, "gradient_norm", False, True),
    "negative_influence": (-1, INFLUENCE, None, False, False),
}
"""Sign, numerator, denominator, whether its root is taken, whether the query's own norm divides too."""


def test_methods_are_listed_in_one_order_by_their_own_names() -> None:
    assert tuple(METHODS) == ORDER
    assert all(method.name == name for name, method in METHODS.items())


@pytest.mark.parametrize("name", ORDER)
def test_every_score_is_the_quotient_of_its_definition(name: str) -> None:
    method = METHODS[name]
    found = (method.sign, method.numerator, method.denominator, method.root, method.normalized)
    assert found == QUOTIENTS[name]


def test_denominators_are_columns_of_the_training_examples() -> None:
    columns = set(TRAIN_EXAMPLES.schema.names)
    assert {method.denominator for method in METHODS.values()} - {None} <= columns
    assert not any(method.root and method.denominator is None for method in METHODS.values())


def test_all_scores_but_distances_and_cosines_can_be_added_up() -> None:
    assert [name for name in ORDER if METHODS[name].additive] == [
        "influence",
        "theta_relatif",
        "l_relatif",
        "negative_influence",
    ]


def test_the_papers_four_stand_first() -> None:
    assert ORDER[:4] == PAPER_METHODS
    assert (*PAPER_METHODS, "negative_influence") == DEFAULT_METHODS


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (DEFAULT_METHODS, PAPER_METHODS),
        (ORDER[::-1], ORDER[:5]),
        (["negative_influence"], ("negative_influence",)),
        ([], ()),
    ],
)
def test_opponents_explain_only_where_nothing_else_does(names: tuple[str, ...], expected: tuple[str, ...]) -> None:
    assert explaining(names) == expected


def test_titles_tell_methods_apart() -> None:
    titles = [METHODS[name].title for name in ORDER]
    assert titles[:4] == ["IF", "theta-RelatIF", "l-RelatIF", "nearest neighbour"]
    assert len(set(titles)) == len(ORDER)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([], ()),
        (ORDER[::-1], ORDER),
        (["l_relatif", "influence", "l_relatif"], ("influence", "l_relatif")),
        (iter(["negative_influence", "gradient_cosine"]), ("gradient_cosine", "negative_influence")),
    ],
)
def test_names_come_each_once_in_order(names: object, expected: tuple[str, ...]) -> None:
    assert in_order(names) == expected  # type: ignore[arg-type]
    assert methods_of(expected[::-1]) == tuple(METHODS[name] for name in expected)


@pytest.mark.parametrize("of_names", [in_order, methods_of])
def test_unknown_names_are_refused_all_at_once(of_names) -> None:
    message = rf"expected methods among {', '.join(ORDER)}, found IF, relatif; use those names"
    with pytest.raises(ConfigurationError, match=message):
        of_names(["relatif", "influence", "IF"])


def test_a_method_is_a_value_that_nobody_changes() -> None:
    with pytest.raises(FrozenInstanceError):
        METHODS["influence"].sign = -1  # type: ignore[misc]
