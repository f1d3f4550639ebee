"""A task is refused when it is made, where one of its parts is of another kind than it has to be."""

import numpy as np
import pytest
import torch
from torch import nn

from relatif.pipeline.curvature.likelihood import Categorical
from relatif.pipeline.tasks.logistic import train_to_optimum
from relatif.pipeline.tasks.newton import NewtonRetraining
from relatif.pipeline.tasks.task import Task
from relatif.schemas.errors import ConfigurationError

PARTS = {
    "name": "t",
    "class_count": 2,
    "build_model": nn.Identity,
    "model_inputs": torch.Tensor.float,
    "train": train_to_optimum,
}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        *(
            ({"class_count": count}, rf"class_count of task 't' to be a whole number of at least 2, found {shown}")
            for count, shown in (("10", r"'10' \(str\)"), (1, "1"), (0, "0"), (-1, "-1"), (True, "True"), (2.5, "2.5"))
        ),
        ({"name": ""}, "the name of a task"),
        ({"name": 7}, "the name of a task to be a text, found 7"),
        ({"build_model": nn.Linear(2, 2)}, None),
        ({"build_model": 3}, "build_model of task 't' to be a function without arguments .*found 3"),
        ({"model_inputs": np.zeros(3)}, r"model_inputs of .* found numpy.ndarray float64 \[3\]"),
        ({"loss": 0.5}, "loss of task 't' to be a function of outputs and labels, found 0.5"),
        ({"train": "train_by_minibatches"}, "train of task 't' to be a function .*found str 'train_by_minibatches'"),
        ({"retrain": NewtonRetraining}, "retrain of .*found the class NewtonRetraining, not an object of it"),
        ({"retrain": train_to_optimum}, r"retrain of .*found function without \['prepare', 'run'\]"),
        ({"class_count": None, "likelihood": Categorical}, "likelihood of .*found the class Categorical"),
        ({"class_count": None, "likelihood": "poisson"}, r"likelihood of .*found str 'poisson' without \['losses', "),
    ],
)
def test_a_part_of_another_kind_is_refused(changes, told) -> None:
    if told is None:  # a module is callable: what it gives is looked at when it is called
        assert Task(**PARTS | changes).class_count == 2
        return
    with pytest.raises(ConfigurationError, match=told):
        Task(**PARTS | changes)


def test_a_whole_number_of_another_library_counts() -> None:
    assert type(Task(**PARTS | {"class_count": np.int64(3)}).class_count) is int
