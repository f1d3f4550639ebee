"""Tasks that name a model alone."""

import pytest
import torch
from torch import nn

from relatif.pipeline.curvature.likelihood import Categorical
from relatif.pipeline.curvature.likelihood_bernoulli import Bernoulli
from relatif.pipeline.curvature.likelihood_dense import DenseCategorical
from relatif.pipeline.curvature.likelihood_gaussian import Gaussian
from relatif.pipeline.curvature.likelihood_tokens import TokenCategorical
from relatif.pipeline.tasks.named import NamedModel
from relatif.pipeline.tasks.task import load_task, recipe_of
from relatif.schemas.errors import ConfigurationError
from relatif.schemas.model_config import ModelConfig

LINEAR = f"{__name__}:linear"


def linear() -> nn.Module:
    return nn.Linear(3, 4)


class Net(nn.Module):
    """A model that is named by its class."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 4)


@pytest.mark.parametrize("name", [LINEAR, f"{__name__}:Net"])
def test_a_model_is_a_task_of_the_datas_classes(name: str) -> None:
    task = load_task(name, NamedModel(class_count=4))
    assert task.likelihood == Categorical(4)
    assert isinstance(task.build_model(), nn.Module)
    stored = torch.arange(3)
    assert task.model_inputs(stored) is stored
    with pytest.raises(ConfigurationError, match=r"expected a recipe to train .* found none; set model.checkpoint"):
        recipe_of(task)


def test_the_settings_tell_the_number_of_outputs() -> None:
    assert load_task(LINEAR, NamedModel(ModelConfig(outputs=9), class_count=4)).likelihood == Categorical(9)


@pytest.mark.parametrize(
    ("settings", "count", "expected"),
    [
        ({"likelihood": "gaussian"}, 1, Gaussian(1)),
        ({"likelihood": "bernoulli"}, 3, Bernoulli(3)),
        ({"likelihood": "gaussian", "outputs": 2}, 3, Gaussian(2)),
    ],
)
def test_columns_of_targets_tell_the_number_of_outputs(settings, count: int, expected: object) -> None:
    assert load_task(LINEAR, NamedModel(ModelConfig(**settings), target_count=count)).likelihood == expected


def test_columns_of_targets_tell_no_number_of_words() -> None:
    with pytest.raises(ConfigurationError, match=r"expected model\.outputs"):
        load_task(LINEAR, NamedModel(ModelConfig(likelihood="token_categorical"), target_count=3))


def test_loading_draws_no_random_numbers_of_the_callers() -> None:
    before = torch.random.get_rng_state()
    load_task(LINEAR, NamedModel(class_count=4))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_data_without_classes_needs_a_likelihood() -> None:
    with pytest.raises(ConfigurationError, match=r"expected model.likelihood for task .* found none; set it to one of"):
        load_task(LINEAR)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"likelihood": "bernoulli", "outputs": 2}, Bernoulli(2)),
        ({"likelihood": "gaussian", "outputs": 2, "variance": 0.5}, Gaussian(2, 0.5)),
        ({"likelihood": "token_categorical", "outputs": 9, "shift": 1}, TokenCategorical(9, shift=1)),
        ({"likelihood": "dense_categorical", "outputs": 3, "ignore_index": 255}, DenseCategorical(3, 255)),
        ({"label_smoothing": 0.1, "outputs": 4}, Categorical(4, label_smoothing=0.1)),
    ],
)
def test_each_likelihood_is_made_of_settings(settings: dict[str, object], expected: object) -> None:
    assert load_task(LINEAR, NamedModel(ModelConfig(**settings), class_count=4)).likelihood == expected


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"likelihood": "gaussian"}, r"expected model\.outputs, how many outputs the model"),
        ({"variance": 2.0, "outputs": 4}, r"settings of model\.likelihood = categorical, found model\.variance"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        load_task(LINEAR, NamedModel(ModelConfig(**settings), class_count=4))


def test_settings_beside_a_task_of_its_own_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="only for a task that returns a model alone, found a Task of"):
        load_task("tests.support.images:logistic", NamedModel(ModelConfig(outputs=4)))
