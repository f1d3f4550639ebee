"""A task: the model, what it reads, the likelihood of its outputs, and how it is trained."""

from collections.abc import Callable, Coroutine, Iterable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from relatif.pipeline.calls import called, described
from relatif.pipeline.curvature.likelihood import Categorical, Likelihood, cross_entropy
from relatif.pipeline.devices import Tell, tell_nobody
from relatif.pipeline.inputs import Inputs
from relatif.pipeline.parallel import Item, Result
from relatif.pipeline.tasks.guarding import Guarded, GuardedBuild, guarded_likelihood, guarded_parts
from relatif.pipeline.tasks.modules import imported_module
from relatif.pipeline.tasks.named import NOTHING_NAMED, NamedModel
from relatif.pipeline.tasks.parts import check_parts, checked_class_count
from relatif.schemas.config import TrainConfig
from relatif.schemas.errors import ConfigurationError, ModelError

__all__ = ["Batch", "Retraining", "Task", "TrainingSet", "cross_entropy", "load_model", "load_task", "module_of"]

BUILT_IN = {
    "mnist_logistic": "relatif.pipeline.tasks.logistic:mnist_logistic",
    "cifar_convnet": "relatif.pipeline.tasks.convnet:cifar_convnet",
    "names_lstm": "relatif.pipeline.tasks.names:names_lstm",
    "toy_logistic": "relatif.pipeline.tasks.logistic:toy_logistic",
}
"""Names of built-in tasks and where they are defined."""

FROM_SETTINGS = {"hugging_face": "relatif.pipeline.tasks.hugging_face:hugging_face"}
"""Names of tasks that are made of the settings of ``model``, and the functions that make them of those."""

ADDRESSES = BUILT_IN | FROM_SETTINGS

TRAIN_PURPOSE = "return the trained model's state"


class Batch(Protocol):
    """Examples in stored form: ``inputs`` [N, ...] as one tensor or several, ``labels`` int64 [N] or other targets."""

    @property
    def inputs(self) -> Any:
        """Return the stored inputs."""
        ...

    @property
    def labels(self) -> Tensor:
        """Return the labels."""
        ...


class TrainingSet(Protocol):
    """The training set as it is read by a recipe, in passes over its shards in index order, with threads to compute."""

    def batches(self, function: Callable[[Batch], Result]) -> Iterator[Result]:
        """Yield ``function(batch)`` for every shard in index order; shards are read and computed by several threads."""
        ...

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Yield ``function(item)`` in the order of ``items``, computed by several threads of one core each."""
        ...

    @property
    def rows(self) -> int:
        """Return the number of training examples."""
        ...

    @property
    def device(self) -> str:
        """Return where a recipe may compute: ``cpu`` or ``cuda``. Batches are always in the processor's memory."""
        ...


def tell(data: TrainingSet, share: float | None, text: str) -> None:
    """Say in the job's log how far training on ``data`` is: a share from 0 to 1 (None: unknown), and a text."""
    # A training set that a user made for a recipe, in a script or a test, need not know of logs.
    teller: Tell = getattr(data, "tell", tell_nobody)
    teller(share, text)


class Retraining(Protocol):
    """How a model is trained again on a changed training set: one example less (leave-one-out), or a random part of it.

    Equal inputs have to give equal bits. Where the result is left to chance, ``config.seed`` has to decide it.
    """

    def prepare(
        self, task: "Task", data: TrainingSet, config: TrainConfig, trained: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """Return named tensors that every retraining starts from, made once of the whole set and the trained state."""
        ...

    def run(
        self, task: "Task", data: TrainingSet, config: TrainConfig, prepared: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """Return the state of the model trained on ``data``, in the precision in which it was computed."""
        ...


_REQUIRED: Any = None


def as_stored(inputs: Inputs) -> Inputs:
    """Return stored inputs as they are: what a task's model reads where nothing else is said."""
    return inputs


# Two tasks are equal where they are the same object: their functions can't be compared.
@dataclass(frozen=True, eq=False)
class Task:
    """What is explained.

    ``build_model()`` makes the untrained model from torch's current seed; ``model_inputs`` turns stored inputs [N, ...]
    into what the model reads, by default as they are; ``train`` returns the trained model's state by PyTorch's names,
    float32, and may be None where the model comes from ``model.checkpoint``. ``likelihood`` is p(target | outputs); in
    its place a classification task gives ``class_count`` and ``loss(outputs, labels)``, per-example negative
    log-likelihoods [N] in nats, and means ``Categorical(class_count, loss)``.
    ``retrain`` is how the model is trained again without some examples; None: by ``train``, from scratch.
    ``files`` are what ``train`` reads beside the data: paths of files and folders, or URLs, relative ones from the
    folder in which the job starts. Their contents decide a run's results, as settings do.
    ``read`` turns rows of a table, a ``pyarrow.RecordBatch``, into ``relatif.Examples(inputs, targets)``; None: the
    settings of ``data`` say how rows are read.

    Raises ConfigurationError where a part is missing or of another kind, and where ``likelihood`` contradicts
    ``class_count`` or ``loss``.
    """

    name: str
    class_count: int | None = None
    build_model: Callable[[], nn.Module] = _REQUIRED
    model_inputs: Callable[[Any], Inputs] = as_stored
    loss: Callable[[Tensor, Tensor], Tensor] | None = None
    train: Callable[["Task", TrainingSet, TrainConfig], dict[str, Tensor]] | None = None
    retrain: Retraining | None = None
    likelihood: Likelihood = _REQUIRED
    files: tuple[str, ...] = ()
    read: Callable[[Any], Any] | None = None

    def __post_init__(self) -> None:
        if self.class_count is not None:
            object.__setattr__(self, "class_count", checked_class_count(self.name, self.class_count))
        if self.likelihood is _REQUIRED and self.class_count is not None:
            made = Categorical(self.class_count, self.loss or cross_entropy)
            object.__setattr__(self, "likelihood", made)
        if self.likelihood is _REQUIRED and self.loss is not None:
            raise ConfigurationError(
                f"expected class_count beside the loss of task {self.name!r}, found none; give class_count=C, the "
                f"number of classes, or, for targets that are no classes, a likelihood in the place of both "
                f"(docs/likelihoods.md)"
            )
        self._check_that_both_agree()
        parts = ("build_model", "likelihood")
        missing = [part for part in parts if getattr(self, part) is _REQUIRED]
        if missing:
            raise ConfigurationError(
                f"expected task {self.name!r} with {', '.join(parts)}, found none of {', '.join(missing)}; give them "
                f"(class_count and loss stand for the likelihood of a classification task)"
            )
        check_parts(self.name, {each.name: getattr(self, each.name) for each in fields(self)})

    def _check_that_both_agree(self) -> None:
        """Refuse a likelihood beside another class_count or loss, as after replacing one of them alone."""
        mine = self.likelihood
        count, loss = (mine.classes, mine.loss) if isinstance(mine, Categorical) else (None, None)
        if self.class_count not in (None, count) or self.loss not in (None, loss):
            raise ConfigurationError(
                f"expected task {self.name!r} with one likelihood, found {mine} beside another class_count or loss; "
                f"give the likelihood with class_count=None and loss=None, or those two with likelihood=None"
            )


def recipe_of(task: Task) -> Callable[[Task, TrainingSet, TrainConfig], dict[str, Tensor]]:
    """Return how a task's model is trained; ConfigurationError where nothing says it."""
    if task.train is None:
        raise ConfigurationError(
            f"expected a recipe to train the model of task {task.name!r}, found none; set model.checkpoint to the "
            f"trained model's file or folder, or give the Task train=train_by_minibatches or a recipe of your own"
        )
    return task.train


def load_task(name: str, named: NamedModel = NOTHING_NAMED) -> Task:
    """Return a built-in task, or the one at ``module:function``, with its functions guarded.

    A function that returns a model alone is a task too: ``named`` tells its likelihood. Raises ConfigurationError when
    there is none, or when the function returns something else, and TaskError, here and in every call of the task's
    functions, for what the user's code raises.
    """
    address = ADDRESSES.get(name, name)
    function = _function(name)
    # A function that returns a model draws its numbers.
    with (
        torch.random.fork_rng(devices=[]),
        called(f"function {address.partition(':')[2]!r} of task {name!r}", "return a Task", defined=function),
    ):
        made = function(named) if name in FROM_SETTINGS else function()
    if isinstance(made, nn.Module):
        build = cast(Callable[[], nn.Module], function)
        return _guarded(Task(name, build_model=build, likelihood=named.likelihood(name)))
    if not isinstance(made, Task):
        if isinstance(made, Coroutine):
            made.close()  # else Python warns that it was never awaited
        raise ConfigurationError(
            f"expected {address} to return a Task, found {described(made)}; return a Task, or an nn.Module and give "
            f"model.likelihood"
        )
    if name not in FROM_SETTINGS:
        named.refuse_beside_a_task(name)
    return _guarded(made)


def reader_of(name: str) -> Callable[[Any], Any] | None:
    """Return the ``read`` of a task, None where it has none; raises as ``load_task``, but says nothing of the rest."""
    if name in ADDRESSES:
        return None
    function = _function(name)
    what = f"function {ADDRESSES.get(name, name).partition(':')[2]!r} of task {name!r}"
    with torch.random.fork_rng(devices=[]), called(what, "return a Task", defined=function):
        made = function()
    return made.read if isinstance(made, Task) else None


def _function(name: str) -> Callable[..., object]:
    address = ADDRESSES.get(name, name)
    module_name, separator, function_name = address.partition(":")
    if not separator:
        raise ConfigurationError(
            f"expected task to be one of {sorted(ADDRESSES)} or module:function, found {name!r}; correct the "
            f"setting 'task'"
        )
    module = imported_module(module_name, name)
    function: Callable[..., object] | None = getattr(module, function_name, None)
    if function is None:
        raise ConfigurationError(
            f"expected a function {function_name!r} in {module!r} for task {name!r}, "
            f"found none; define it there or correct the setting 'task'"
        )
    if not callable(function):
        raise ConfigurationError(
            f"expected {address} to be a function, found {type(function).__name__}; name one that makes a Task or an "
            f"nn.Module"
        )
    return function


def _guarded(task: Task) -> Task:
    """Return a task whose functions raise TaskError for what the user's code raises."""
    likelihood = guarded_likelihood(task.likelihood, task.name)
    return replace(
        task,
        build_model=GuardedBuild(task.build_model, f"build_model of task {task.name!r}"),
        train=task.train and Guarded(task.train, f"train of task {task.name!r}", TRAIN_PURPOSE, ("task", "data")),
        retrain=task.retrain and guarded_parts(task.retrain, f"the retraining of task {task.name!r}"),
        likelihood=likelihood,
        loss=likelihood.loss if task.loss is not None and isinstance(likelihood, Categorical) else task.loss,
    )


def module_of(name: str) -> str:
    """Return the dotted name of the module that defines a task; ConfigurationError where it has no such function."""
    _function(name)
    return ADDRESSES.get(name, name).partition(":")[0]


def load_model(task: Task, state: dict[str, Tensor]) -> nn.Module:
    """Return the trained model in float64 and evaluation mode.

    Gradients of confident predictions are differences of nearly equal probabilities; float64 keeps their digits.
    Raises ModelError when the checkpoint's parameters are not the model's.
    """
    with torch.random.fork_rng(devices=[]):
        model = task.build_model().double()  # before loading, so that a state in float64 keeps its digits
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise ModelError(
            f"expected a checkpoint of task {task.name!r}, found another model's: {' '.join(str(error).split())}"
        ) from error
    return model.eval()
