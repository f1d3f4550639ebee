"""A task's functions are called as before; what they raise or wrongly return is told as the user's."""

import pickle
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from relatif.pipeline.curvature.likelihood import Categorical, cross_entropy
from relatif.pipeline.tasks.guarding import (
    Guarded,
    GuardedBuild,
    guarded_likelihood,
    guarded_loss,
    guarded_parts,
)
from relatif.pipeline.tasks.newton import NewtonRetraining
from relatif.pipeline.tasks.task import load_task
from relatif.schemas.errors import ModelError, TaskError


class Counts:
    """Half a likelihood of a user's own."""

    classes = None

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        if len(targets) > 3:
            raise ValueError("too many")
        return outputs[:, 0] - targets

    def expectation(self, outputs: Tensor):
        yield outputs, 1
        raise KeyError("late")

    @property
    def odd(self) -> int:
        raise ZeroDivisionError


def test_results_are_those_of_the_function() -> None:
    guarded = guarded_parts(Counts(), "it")
    outputs, targets = torch.ones(3, 2), torch.arange(3)
    assert guarded.classes is None
    assert torch.equal(guarded.losses(outputs, targets), Counts().losses(outputs, targets))
    assert next(guarded.expectation(outputs))[1] == 1
    assert Guarded(max, "max", "work")(3, 5) == 5


def test_what_methods_raise_is_told_even_late() -> None:
    guarded = guarded_parts(Counts(), "the likelihood")
    told = (
        r"losses of the likelihood to work, found ValueError: too many .*outputs float32 \[4, 2\], targets int64 \[4\]"
    )
    with pytest.raises(TaskError, match=told):
        guarded.losses(torch.ones(4, 2), torch.arange(4))
    with pytest.raises(TaskError, match=r"expectation of .*found KeyError: 'late'"):
        list(guarded.expectation(torch.ones(4, 2)))
    with pytest.raises(TaskError, match=r"odd of .*found ZeroDivisionError"):
        guarded.odd  # noqa: B018
    assert not hasattr(guarded, "nothing_of_that_name")


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (7, "found 7"),
        (nn.Linear, "found the class Linear"),
        (nn.Linear(2, 2).state_dict(), "found dict with keys"),
        (None, "None"),
    ],
)
def test_what_is_no_model_is_refused(value, told) -> None:
    with pytest.raises(
        ModelError, match=rf"expected build to return an nn.Module, {told}" if "found" in told else told
    ):
        GuardedBuild(lambda: value, "build")()


def test_a_loss_that_is_no_tensor_is_refused_and_the_projects_own_stays_itself() -> None:
    assert guarded_loss(cross_entropy, "t") is cross_entropy
    assert guarded_likelihood(Categorical(3), "t") == Categorical(3)
    wrong = guarded_likelihood(Categorical(3, lambda *_: 0.5), "t")
    with pytest.raises(ModelError, match=r"the loss of task 't' to return a tensor of one loss .* found 0.5"):
        wrong.losses(torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64))
    retraining = NewtonRetraining()
    assert guarded_parts(retraining, "r") is retraining


def test_a_guarded_task_can_be_changed_and_guards_can_be_copied() -> None:
    task = load_task("tests.support.images:perceptron")
    assert replace(task, name="other").name == "other"
    assert isinstance(task.build_model(), nn.Sequential)
    copied = pickle.loads(pickle.dumps(guarded_parts(Counts(), "it")))
    assert copied.classes is None
