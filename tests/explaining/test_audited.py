"""Tasks of users, right and wrong, before training and after it: what is right passes, what is wrong is named.

The wrong ones are of the kinds that once gave wrong scores without a word.
"""

import importlib.util
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations, prune, spectral_norm

from relatif.pipeline.datasets.shards import Shard
from relatif.pipeline.explaining.audited import ROWS, audit_trained, audit_untrained, first_rows
from relatif.pipeline.runs.source import Source
from relatif.pipeline.tasks.convnet import cifar_convnet
from relatif.pipeline.tasks.logistic import mnist_logistic, toy_logistic
from relatif.pipeline.tasks.names import names_lstm
from relatif.pipeline.tasks.task import Task, load_model
from relatif.schemas.errors import ModelError
from tests.auditing.test_outputs import Shuffled, without_statistics
from tests.support import audited, images
from tests.support.audited import Net, plain
from tests.support.featured import CLASSES, FEATURES, config_of, source_of, task_of, write_features
from tests.support.own_tasks import EXAMPLES

torch.set_num_threads(1)

ROUNDING = 1e-9
"""Relative: float64 sums in another order."""

Parts = tuple[tuple[Shard, ...], tuple[Shard, ...]]


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_features(tmp_path_factory.mktemp("features") / "data")


def parts(source: Source) -> Parts:
    return source.dataset.shards("train", rows=20), source.dataset.shards("test", rows=20)


def before_training(task: Task, data: Path, layers: tuple[str, ...] | None = None) -> dict[str, object]:
    source = source_of(data, data / "run", layers)
    return audit_untrained(source, task, config_of(data), *parts(source))


def after_training(task: Task, data: Path) -> dict[str, object]:
    source, state = source_of(data, data / "run"), task.build_model().state_dict()
    return audit_trained(source, task, config_of(data), *parts(source), load_model(task, state))


def with_first(change: Callable[[nn.Linear], nn.Module]) -> nn.Module:
    model = Net(plain)
    model.first = change(model.first)  # type: ignore[assignment]
    return model


def weighted(outputs: Tensor, labels: Tensor) -> Tensor:
    return functional.cross_entropy(outputs, labels, torch.tensor([1.0, 3.0, 10.0]).to(outputs), reduction="none")


WRONG: dict[str, tuple[Task, str]] = {
    "batch statistics": (task_of(without_statistics), "depend on that example alone"),
    "class weights": (task_of(audited.good, weighted), r"exp\(-loss\) to sum to 1 over all targets"),
    "two outputs": (task_of(partial(Net, lambda m, x: (plain(m, x), x))), "one batch of outputs, found 2"),
    "float32 alone": (task_of(partial(Net, lambda m, x: plain(m, x.float()))), "also computes in float64, as scores"),
    "random tensor": (task_of(partial(Shuffled, "plain")), r"random numbers that are neither \(order\)"),
    "lazy": (task_of(partial(with_first, lambda layer: nn.LazyLinear(FEATURES))), "found first.weight of a lazy layer"),
    "complex": (task_of(lambda: nn.Linear(FEATURES, CLASSES, dtype=torch.complex64)), "real numbers, found weight of"),
    "function of its own": (task_of(partial(Net, audited.beside)), "to be seen, found one of first.weight that"),
    "hook on a parameter": (task_of(audited.hooked_parameter), "captured gradient of parameter first.weight"),
    "unknown use": (task_of(partial(Net, audited.distant)), r"first.weight in cdist.*exclude = \['first.weight'\]"),
    "unused part": (task_of(partial(Net, plain, pairs=nn.Bilinear(2, 2, 2))), r"found \['pairs'\] unused; freeze"),
    "renormalized rows": (task_of(lambda: nn.Embedding(9, 3, max_norm=1.0)), "found weight of Embedding with max_norm"),
    "inputs in place": (task_of(audited.good, model_inputs=lambda x: x.sub_(1)), "to leave stored inputs as they were"),
}  # fmt: skip

RIGHT: dict[str, Task] = {
    "plain": task_of(audited.good),
    "cosine head": task_of(partial(Net, audited.cosine)),
    "spectral norm by a hook": task_of(partial(with_first, spectral_norm)),
    "weight norm": task_of(partial(with_first, parametrizations.weight_norm)),
    "pruned": task_of(partial(with_first, partial(prune.l1_unstructured, name="weight", amount=4))),
    "second use": task_of(partial(Net, audited.used_twice)),
    "tied by a product": task_of(partial(Net, audited.decoded)),
    "called twice": task_of(partial(Net, lambda m, x: m.head(m.first(m.first(x))))),
    "logits in a dict": task_of(partial(Net, lambda m, x: {"loss": None, "logits": plain(m, x)})),
    "inputs by name": task_of(audited.good, model_inputs=lambda x: {"inputs": x}),
    "input in place": task_of(partial(Net, audited.in_place)),
    "biases alone": task_of(audited.biases_alone),
    "output hook": task_of(audited.output_hook),
    "input hook": task_of(audited.input_hook),
    "buffer": task_of(partial(Shuffled, "buffer")),
    "straight through": task_of(partial(Net, audited.straight_through)),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_would_give_wrong_scores_is_refused_before_training(features: Path, name: str) -> None:
    task, message = WRONG[name]
    with pytest.raises(ModelError, match=message) as caught:
        before_training(task, features)
    assert str(caught.value).startswith("expected ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", sorted(set(WRONG) - {"random tensor", "lazy"}))
def test_it_is_refused_after_training_too(features: Path, name: str) -> None:
    """A random tensor of the model is found by its stored outputs; the other is never trained."""
    task, message = WRONG[name]
    with pytest.raises(ModelError, match=message):
        after_training(task, features)


@pytest.mark.parametrize("name", RIGHT)
def test_what_is_right_passes_before_and_after_training(features: Path, name: str) -> None:
    found = before_training(RIGHT[name], features)
    assert found["rows"] == {"train": [0, ROWS], "test": [0, ROWS]}
    assert found["perturbed"] is True
    assert json.loads(json.dumps(found)) == found
    for each in (found, after_training(RIGHT[name], features)):
        assert max(each["largest_difference"].values()) < ROUNDING  # type: ignore[attr-defined]


def example(module: str, function: str) -> Task:
    spec = importlib.util.spec_from_file_location(module, EXAMPLES / f"{module}.py")
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    task: Task = getattr(loaded, function)()
    return task


TASKS: dict[str, tuple[Callable[[], Task], tuple[int, ...], str, tuple[str, ...] | None]] = {
    "mnist_logistic": (mnist_logistic, (28, 28), "uint8", None),
    "toy_logistic": (toy_logistic, (2,), "float32", None),
    "cifar_convnet": (cifar_convnet, (3, 32, 32), "uint8", None),
    "names_lstm": (names_lstm, (20,), "uint8", ("linear",)),
    "my_mlp": (partial(example, "my_mlp", "my_mlp"), (1, 8, 8), "uint8", None),
    "names_transformer": (partial(example, "names_transformer", "names_transformer"), (24,), "uint8", None),
    "logistic": (images.logistic, (6, 6), "uint8", None),
    "perceptron": (images.perceptron, (6, 6), "uint8", None),
    "rowwise": (images.rowwise, (6, 6), "uint8", None),
}


@pytest.mark.parametrize("name", TASKS)
def test_every_task_of_the_project_and_its_examples_passes(tmp_path: Path, name: str) -> None:
    make, shape, dtype, layers = TASKS[name]
    task = make()
    assert task.likelihood.classes is not None
    data = write_features(tmp_path / "data", shape=shape, dtype=dtype, classes=task.likelihood.classes)
    found = before_training(task, data, layers)
    assert max(found["largest_difference"].values()) < ROUNDING  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["mnist_logistic", "cifar_convnet"])
def test_it_takes_two_seconds_at_most(tmp_path: Path, name: str) -> None:
    make, shape, dtype, _ = TASKS[name]
    data = write_features(tmp_path / "data", shape=shape, dtype=dtype, classes=10)
    begun = time.process_time()
    before_training(make(), data)
    after_training(make(), data)
    assert time.process_time() - begun < 2


def test_numbers_that_have_to_stay_positive_are_not_perturbed(features: Path) -> None:
    class Rooted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale, self.inner = nn.Parameter(torch.full((FEATURES,), 1e-3)), audited.good()

        def forward(self, inputs: Tensor) -> Tensor:
            return self.inner(inputs * self.scale.sqrt())

    found = before_training(task_of(Rooted), features, ("inner.*",))
    assert found["perturbed"] is False


def test_a_model_that_is_not_built_anew_is_left_as_it_was(features: Path) -> None:
    model = audited.good()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    task = task_of(lambda: model)
    before_training(task, features)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.training
    loaded = load_model(task, model.state_dict())
    loaded.head.requires_grad_(False)
    source = source_of(features, features / "run")
    audit_trained(source, task, config_of(features), *parts(source), loaded)
    assert [each.requires_grad for each in loaded.parameters()] == [True, True, False, False]


def test_a_frozen_layer_may_be_used_as_the_model_likes(features: Path) -> None:
    def build() -> nn.Module:
        model = Net(audited.used_twice)
        model.first.requires_grad_(False)
        return model

    before_training(task_of(build), features)
    before_training(task_of(partial(Net, audited.used_twice)), features, ("head",))


def test_first_rows_are_the_rows_that_a_shard_begins_with(features: Path) -> None:
    source = source_of(features, features / "run")
    (shard, *_), _ = parts(source)
    some = first_rows((shard,), 3)
    assert (some.start, some.stop) == (0, 3)
    assert torch.equal(source.stored(some).inputs, source.stored(shard).inputs[:3])
    whole = source.dataset.shards("train", rows=61)
    assert torch.equal(source.stored(first_rows(whole, 50)).labels, source.stored(whole[0]).labels[:50])
    assert first_rows(whole, 50).stop == 50
    assert first_rows(source.dataset.shards("test", rows=2, limit=2)).stop == 2
