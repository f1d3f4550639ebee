"""Tasks by name and address, and the models that checkpoints make."""

import sys
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from relatif.pipeline.curvature.likelihood import Categorical
from relatif.pipeline.tasks.logistic import LogisticRegression, train_to_optimum
from relatif.pipeline.tasks.task import BUILT_IN, Task, cross_entropy, load_model, load_task, module_of
from relatif.schemas.errors import ConfigurationError, ModelError, TaskError
from tests.reference import softmax

torch.set_num_threads(1)


@pytest.mark.parametrize("name", BUILT_IN)
def test_built_in_tasks_load_by_name_and_by_address(name) -> None:
    assert load_task(name).name == name
    assert load_task(BUILT_IN[name]).name == name


def test_a_task_of_the_users_own(tmp_path, monkeypatch) -> None:
    (tmp_path / "own_task.py").write_text(
        "from relatif.pipeline.tasks.task import Task\n"
        "def part(*given):\n"
        "    raise NotImplementedError\n"
        "def make():\n"
        "    return Task('own', 2, build_model=part, model_inputs=part, train=part)\n"
        "def fails():\n"
        "    raise AttributeError('a mistake in the function')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)

    assert load_task("own_task:make").name == "own"
    # Its own mistakes are not taken for a wrong address.
    with pytest.raises(
        TaskError, match=r"'fails' .*found AttributeError: a mistake in the function at .*own_task.py:7"
    ):
        load_task("own_task:fails")
    sys.modules.pop("own_task")


def test_what_a_users_module_lacks_is_told_and_its_mistakes_are_its_own(tmp_path, monkeypatch) -> None:
    (tmp_path / "needs_more.py").write_text("import a_package_that_is_not_there\n")
    (tmp_path / "mistaken.py").write_text("import math\nmath.no_such_number\n")
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(
        ConfigurationError, match=r"found No module named 'a_package_that_is_not_there'.*all it imports"
    ):
        load_task("needs_more:make")
    with pytest.raises(TaskError, match=r"'mistaken' .* to be imported, found AttributeError.*at .*mistaken.py:2;"):
        load_task("mistaken:make")


def test_the_module_of_a_task_is_where_it_is_defined() -> None:
    assert module_of("names_lstm") == module_of(BUILT_IN["names_lstm"]) == "relatif.pipeline.tasks.names"
    assert module_of("tests.support.images:logistic") == "tests.support.images"
    with pytest.raises(ConfigurationError, match="expected task to be one of"):
        module_of("no_such_task")


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("import pipeline.tasks.task", "found expected to import relatif.pipeline, .*; write relatif.pipeline instead"),
        ("from schemas.errors import DataError", "write relatif.schemas instead"),
        ("import pipelines.tasks", r"found No module named 'pipelines'; start the job"),
    ],
)
def test_an_old_name_of_the_project_is_refused_with_the_new_one(tmp_path, monkeypatch, statement, told) -> None:
    """Here the project's folder is on the import path; tests/test_import_name.py shows it where it is not."""
    (tmp_path / "old_names.py").write_text(f"{statement}\n")
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(ConfigurationError, match=told):
        load_task("old_names:make")


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        (
            "import pipeline.tasks.task",
            r"\(relatif's own pipeline.tasks is imported as relatif.pipeline.tasks\); start",
        ),
        (
            "from pipeline.console import say",
            r"\(relatif's own pipeline.console is imported as relatif.pipeline.console\)",
        ),
        ("from pipeline import console", r"\(relatif's own pipeline is imported as relatif.pipeline\)"),
        ("import pipeline.of_the_user", "found No module named 'pipeline.of_the_user'; start the job"),
        ("import pipeline.of_the_user.deeper", "found No module named 'pipeline.of_the_user'; start the job"),
    ],
)
def test_beside_a_package_of_the_users_the_new_name_is_told(tmp_path, monkeypatch, statement, told) -> None:
    (tmp_path / "pipeline").mkdir()
    (tmp_path / "pipeline/__init__.py").touch()
    (tmp_path / "beside.py").write_text(f"{statement}\n")
    monkeypatch.syspath_prepend(tmp_path)

    try:
        with pytest.raises(ConfigurationError, match=told):
            load_task("beside:make")
    finally:
        sys.modules.pop("pipeline", None)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "mnist_logistics",
            r"one of \['cifar_convnet', 'hugging_face', .*\] or module:function, found 'mnist_logistics'",
        ),
        ("no_such_module:make", "import module 'no_such_module' .* found No module named 'no_such_module'"),
        ("no_such_module:make", "start the job in the folder that holds the module .*--working-dir.* or install"),
        ("json:no_such_function", "expected a function 'no_such_function' in <module 'json' from .*, found none"),
        ("json:", "expected a function '' in <module 'json'"),
        (":make", "expected to import module ''"),
        (".relative:make", "expected to import module '.relative'"),
        ("math:pi", "expected math:pi to be a function, found float"),
        ("os:getcwd", "expected os:getcwd to return a Task, found str"),
    ],
)
def test_what_is_no_task_is_refused(name, message) -> None:
    with pytest.raises(ConfigurationError, match=message):
        load_task(name)


def small_task(features: int = 3) -> Task:
    build = partial(LogisticRegression, features, 2)
    return Task("small", 2, build, torch.Tensor.double, cross_entropy, train_to_optimum)


def halved(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return cross_entropy(outputs / 2, labels)


def test_class_count_and_loss_stand_for_a_likelihood_of_labels() -> None:
    parts = {"build_model": nn.Identity, "model_inputs": torch.Tensor.float, "train": train_to_optimum}

    assert Task("t", 3, **parts).likelihood == Categorical(3)
    assert Task("t", 3, **parts, loss=halved).likelihood == Categorical(3, halved)
    assert Task("t", **parts, likelihood=Categorical(4, halved)).likelihood == Categorical(4, halved)


@pytest.mark.parametrize("missing", ["build_model", "likelihood"])
def test_a_task_without_a_part_is_refused(missing) -> None:
    parts = {"build_model": nn.Identity, "model_inputs": torch.Tensor.float, "train": train_to_optimum}
    given = {name: part for name, part in {**parts, "likelihood": Categorical(2)}.items() if name != missing}

    with pytest.raises(ConfigurationError, match=rf"expected task 'partial' with .*, found none of {missing}; give"):
        Task("partial", **given)


def test_a_loss_alone_lacks_the_number_of_classes() -> None:
    with pytest.raises(ConfigurationError, match="expected class_count beside the loss of task 'q', found none; give"):
        Task("q", build_model=nn.Identity, loss=halved)


def test_a_likelihood_and_another_loss_are_refused() -> None:
    """Else replacing the loss of a task would change nothing."""
    for changes in ({"loss": halved}, {"class_count": 3}, {"likelihood": Categorical(2, halved)}):
        with pytest.raises(ConfigurationError, match="expected task 'small' with one likelihood, found Categorical"):
            replace(small_task(), **changes)
    alone = {"class_count": None, "loss": None}
    assert replace(small_task(), likelihood=Categorical(4, halved), **alone).likelihood == Categorical(4, halved)
    assert replace(small_task(), loss=halved, likelihood=None).likelihood == Categorical(2, halved)


def test_tasks_are_told_apart_by_identity() -> None:
    task = small_task()

    assert task == task  # noqa: PLR0124 - that is the question
    assert task != small_task()
    assert len({task, small_task(), task}) == 2


def test_a_checkpoint_gives_a_float64_model_in_evaluation_mode() -> None:
    state = {"linear.weight": torch.randn(2, 3), "linear.bias": torch.randn(2)}

    model = load_model(small_task(), state)

    assert not any(module.training for module in model.modules())
    for name, value in model.state_dict().items():
        assert value.dtype == torch.float64
        assert torch.equal(value, state[name].double())


def test_a_loaded_model_leaves_the_random_numbers_alone() -> None:
    state = {"linear.weight": torch.zeros(2, 3), "linear.bias": torch.zeros(2)}
    torch.manual_seed(5)
    expected = torch.rand(4)
    torch.manual_seed(5)

    load_model(small_task(), state)

    assert torch.equal(torch.rand(4), expected)


@pytest.mark.parametrize(
    "state",
    [
        {"linear.weight": torch.zeros(2, 4), "linear.bias": torch.zeros(2)},
        {"linear.weight": torch.zeros(2, 3)},
        {"linear.weight": torch.zeros(2, 3), "linear.bias": torch.zeros(2), "other": torch.zeros(1)},
    ],
)
def test_another_models_checkpoint_is_refused(state) -> None:
    with pytest.raises(ModelError, match="expected a checkpoint of task 'small', found another model's"):
        load_model(small_task(), state)


def test_cross_entropy_is_the_negative_log_likelihood_of_each_example() -> None:
    rng = np.random.default_rng(0)
    logits, labels = 5 * rng.standard_normal((20, 4)), rng.integers(0, 4, 20)
    expected = -softmax.log_probabilities_of(logits)[np.arange(20), labels]

    found = cross_entropy(torch.from_numpy(logits), torch.from_numpy(labels))

    assert found.shape == (20,)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-14)
    assert cross_entropy(torch.tensor([[1000.0, 0.0]]), torch.tensor([1])).item() == 1000


def test_cross_entropy_is_differentiated_example_by_example() -> None:
    logits = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 1, 2, 0, 1, 2])

    (found,) = torch.autograd.grad(cross_entropy(logits, labels).sum(), logits)

    assert torch.allclose(found, logits.softmax(dim=1) - nn.functional.one_hot(labels, 3), atol=1e-15)
