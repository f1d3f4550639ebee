"""What a recipe may return, and what is refused in one line before it is written."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from relatif.pipeline.tasks.task import Task, cross_entropy
from relatif.pipeline.tasks.trained_state import checked_state
from relatif.schemas.errors import ModelError, NumericalError


def build() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))


TASK = Task("small", 2, build, Tensor.float, cross_entropy, lambda *_: {})


def changed(name: str, value: object) -> dict[str, object]:
    return {**build().state_dict(), name: value}


NOT_FINITE = torch.tensor([[1.0, torch.nan, 0.0], [0.0, 0.0, 0.0]])

WRONG = {
    "nothing": (None, "by their names, found NoneType; end it with return model.state_dict()"),
    "the model": (build(), "found the model itself; return its state_dict()"),
    "a text": ("weights.pt", "by their names, found str"),
    "a list": ([torch.ones(2)], "by their names, found list"),
    "other names": ({"0.weight": torch.ones(2, 3), "head": torch.ones(2)}, "0.bias, 1.weight, 1.bias, .* missing and"),
    "one more": (changed("extra", torch.ones(1)), r"build_model\(\).state_dict\(\), found extra unknown"),
    "another shape": (changed("0.weight", torch.ones(3, 2)), r"float32 \[2, 3\], found torch.float32 \[3, 2\]"),
    "numpy": (changed("0.weight", np.ones((2, 3))), "to return tensors, found ndarray for 0.weight; turn it into"),
    "a number": (changed("0.bias", 0.5), "to return tensors, found float for 0.bias"),
    "whole numbers": (changed("0.bias", torch.ones(2).long()), r"0.bias as torch.float32 \[2\], found torch.int64"),
    "complex": (changed("0.bias", torch.ones(2) * 1j), r"0.bias as torch.float32 \[2\], found torch.complex64"),
    "sparse": (changed("0.weight", torch.ones(2, 3).to_sparse()), r"found torch.float32 \[2, 3\], torch.sparse_coo"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_state_of_the_model_is_refused_in_a_line(name: str) -> None:
    state, message = WRONG[name]
    with pytest.raises(ModelError, match=message) as caught:
        checked_state(TASK, state)
    assert str(caught.value).startswith("expected train of task 'small' to return ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_numbers_that_are_not_finite_are_refused_by_name(value: float) -> None:
    state = changed("0.weight", torch.full((2, 3), value))
    with pytest.raises(NumericalError, match=r"finite parameters after training, found 0\.weight not to be; lower"):
        checked_state(TASK, state)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_a_state_of_any_precision_passes_as_it_is_in_the_models_order(dtype: torch.dtype) -> None:
    state = dict(build().to(dtype).state_dict())
    found = checked_state(TASK, dict(reversed(state.items())))
    assert list(found) == list(build().state_dict())
    assert all(torch.equal(found[name], value) and found[name].dtype == value.dtype for name, value in state.items())
    with_graph = checked_state(TASK, dict(build().state_dict(keep_vars=True)))
    assert not any(value.requires_grad for value in with_graph.values())
