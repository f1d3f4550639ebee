"""What is asked for, and ranks sorted out into what was."""

import pytest
import torch

from relatif.pipeline.explaining.found import LOWEST, Found, asked_for, sorted_out
from relatif.pipeline.influence.top_k import TopK
from relatif.schemas.errors import ConfigurationError
from relatif.schemas.methods import METHODS


def test_the_lowest_are_sought_by_methods_with_a_sign() -> None:
    asked = asked_for(list(METHODS), 100, k=5, lowest=2)
    assert [each.name for each in asked.sought][: len(METHODS)] == list(METHODS)
    turned = {each.name.removeprefix(LOWEST): each.sign for each in asked.sought if each.name.startswith(LOWEST)}
    assert turned == dict.fromkeys(("influence", "theta_relatif", "l_relatif", "gradient_cosine"), -1)
    assert asked.ranks == 5
    assert asked_for(["nearest_neighbour"], 3, k=5, lowest=4).sought == (METHODS["nearest_neighbour"],)


def test_no_more_is_asked_for_than_there_is() -> None:
    asked = asked_for(["influence"], 3, k=5, lowest=4)
    assert (asked.k, asked.lowest) == (3, 3)
    for wrong in ({"k": 0}, {"k": 1, "lowest": -1}):
        with pytest.raises(ConfigurationError, match="expected at least 1 example"):
            asked_for(["influence"], 3, **wrong)


def test_ranks_are_cut_and_turned_back() -> None:
    asked = asked_for(["influence"], 9, k=1, lowest=2)
    ranked = {
        "influence": TopK(torch.tensor([[3.0, 1.0]]), torch.tensor([[7, 2]])),
        LOWEST + "influence": TopK(torch.tensor([[2.0, 0.0]]), torch.tensor([[4, 5]])),
    }
    found = Found.joined([sorted_out(asked, ranked, {})] * 2)
    assert found.best["influence"].scores.tolist() == [[3.0], [3.0]]
    assert found.lowest["influence"].scores.tolist() == [[-2.0, 0.0]] * 2
    assert str(found.lowest["influence"].scores[0, 1].item()) == "0.0"
    assert found.lowest["influence"].indices.tolist() == [[4, 5]] * 2
