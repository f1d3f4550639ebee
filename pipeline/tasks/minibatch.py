"""Training by minibatches: a recipe for any model, whose result is the same for any number of threads.

Axes: N examples.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial, reduce

import torch
from torch import Tensor, nn

from relatif.pipeline import inputs as batches
from relatif.pipeline.calls import read_inputs, run_model
from relatif.pipeline.inputs import Inputs
from relatif.pipeline.tasks.task import Batch, Task, TrainingSet, tell
from relatif.schemas.config import TrainConfig
from relatif.schemas.errors import ModelError, NumericalError

CHUNKS = 4
"""Pieces of a minibatch, each computed by one thread on one core; more cores than that are of no use."""

WARM_UP = 0.1
"""Share of all steps in which the learning rate rises."""

OptimizerFactory = Callable[[list[nn.Parameter], TrainConfig], torch.optim.Optimizer]
"""Makes the optimizer of the trainable parameters; its learning rate is then set anew for every step."""


def momentum_sgd(parameters: list[nn.Parameter], config: TrainConfig) -> torch.optim.Optimizer:
    """Return stochastic gradient descent with momentum and coupled weight decay."""
    return torch.optim.SGD(
        parameters, lr=config.learning_rate, momentum=config.momentum, weight_decay=config.weight_decay
    )


def adam(parameters: list[nn.Parameter], config: TrainConfig) -> torch.optim.Optimizer:
    """Return Adam with coupled weight decay; ``config.momentum`` is the decay rate of its first moment."""
    return torch.optim.Adam(
        parameters, lr=config.learning_rate, betas=(config.momentum, 0.999), weight_decay=config.weight_decay
    )


def train_by_minibatches(
    task: Task, data: TrainingSet, config: TrainConfig, *, optimizer: OptimizerFactory = momentum_sgd
) -> dict[str, Tensor]:
    """Minimize mean loss + weight_decay / 2 ||theta||^2 over the trainable parameters, in float32, from config.seed.

    Each of ``config.epochs`` passes visits every example once, in an order of its own, in minibatches of almost equal
    size, at most ``config.batch_size``. The learning rate follows ``learning_rate_at``. The stored inputs are held in
    memory. For another optimizer give the task ``train=partial(train_by_minibatches, optimizer=adam)``.

    A minibatch is cut into CHUNKS pieces, each computed on one core and added up in order, so the result is bitwise
    the same for any number of threads; it depends on the processor's type, as all floating-point arithmetic does.
    That needs a forward pass without side effects: one that changes buffers, mixes examples (BatchNorm) or draws
    random numbers (dropout above 0) raises ModelError, and so does a loss that is not given per example.
    NumericalError, with epoch and step, when the loss is no longer finite.
    """
    inputs, labels = _all_examples(data)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        # Convolutions of small float32 images take half the time on a processor when channels lie innermost.
        model = task.build_model().float().to(data.device).train()
        nn.utils.convert_conv2d_weight_memory_format(model, torch.channels_last)
        _refuse_batch_statistics(model)
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        step = _Step(task, model, parameters, optimizer(parameters, config), (inputs, labels), data.device)
        _run(step, data, config)
    state = {
        name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, value in model.state_dict().items()
    }
    broken = [name for name, value in state.items() if not bool(value.isfinite().all())]
    if broken:
        raise NumericalError(
            f"expected finite parameters after training, found {broken} not to be; lower train.learning_rate"
        )
    return state


def learning_rate_at(step: int, steps: int, largest: float) -> float:
    """Return the rate of a step, counted from 0, of ``steps`` in all.

    It rises linearly to ``largest`` in the first tenth of the steps and falls to 0 along half a cosine in the others.
    """
    warm = math.ceil(WARM_UP * steps)
    if step < warm:
        return largest * (step + 1) / warm
    return largest * (1 + math.cos(math.pi * (step - warm + 1) / (steps - warm + 1))) / 2


@dataclass(frozen=True)
class _Step:
    """What a step needs: ``gradient`` runs in several threads at once and only reads, ``update`` runs alone."""

    task: Task
    model: nn.Module
    parameters: Sequence[nn.Parameter]
    optimizer: torch.optim.Optimizer
    examples: tuple[Inputs, Tensor]
    device: str

    def gradient(self, chunk: tuple[Tensor, int]) -> tuple[Tensor, Sequence[Tensor]]:
        """Return a chunk's part of its minibatch's mean loss, and its gradient; the chunk is rows and minibatch size.

        Unlike ``backward`` this writes nothing to the parameters, which all threads share.
        """
        rows, batch_rows = chunk
        stored, labels = batches.rows(self.examples[0], rows), self.examples[1][rows]
        # Bytes are cast as for scoring: a model that reads stored pictures as they are finds numbers of its own type.
        inputs = batches.moved(read_inputs(self.task.model_inputs, stored), self.device, torch.float32)
        outputs = run_model(self.model, inputs)
        losses = self.task.likelihood.losses(outputs, labels.to(self.device))
        loss = losses.sum() / batch_rows
        return loss.detach(), torch.autograd.grad(loss, self.parameters, materialize_grads=True)

    def update(self, gradients: Sequence[Sequence[Tensor]], rate: float) -> None:
        """Add the chunks' gradients in order and take a step of the given learning rate."""
        for parameter, *parts in zip(self.parameters, *gradients, strict=True):
            parameter.grad = reduce(torch.add, parts)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()


def _run(step: _Step, data: TrainingSet, config: TrainConfig) -> None:
    rows = data.rows
    steps = math.ceil(rows / config.batch_size)
    shuffling = torch.Generator().manual_seed(config.seed)
    for epoch in range(config.epochs):
        order, total, seen = torch.randperm(rows, generator=shuffling), 0.0, 0
        for number, batch in enumerate(order.tensor_split(steps)):
            held = _side_effects(step.model)
            chunks = [(chunk, len(batch)) for chunk in batch.tensor_split(min(CHUNKS, len(batch)))]
            losses, gradients = zip(*data.map(step.gradient, chunks), strict=True)
            _refuse_side_effects(held, _side_effects(step.model))
            loss = float(reduce(torch.add, losses))
            if not math.isfinite(loss):
                raise NumericalError(
                    f"expected a finite training loss, found {loss} in epoch {epoch + 1}, step {number + 1} of {steps};"
                    f" lower train.learning_rate, or look for values in the data that are not finite"
                )
            rate = learning_rate_at(epoch * steps + number, config.epochs * steps, config.learning_rate)
            # On one core too: where threads split a loop decides whether multiply and add are rounded once or twice.
            list(data.map(partial(step.update, gradients), [rate]))
            total, seen = total + loss * len(batch), seen + len(batch)
            share = (epoch * steps + number + 1) / (config.epochs * steps)
            tell(data, share, f"epoch {epoch + 1} of {config.epochs}, loss {total / seen:.4g}")


def _all_examples(data: TrainingSet) -> tuple[Inputs, Tensor]:
    """Return the stored inputs [N, ...] and targets [N, ...] of the whole training set.

    Room for them is made once, and a few shards are copied at a time.
    """
    held: tuple[Inputs, Tensor] | None = None
    start = 0
    for batch in data.batches(_itself):
        given = (batch.inputs, batch.labels)
        if held is None:
            held = batches.mapped(partial(_room, data.rows), given[0]), _room(data.rows, given[1])
        stop = start + len(batch.labels)
        for into, some in zip(_flat(held), _flat(given), strict=True):
            into[start:stop] = some
        start = stop
    return (torch.empty(0), torch.empty(0)) if held is None else held


def _room(rows: int, like: Tensor) -> Tensor:
    return like.new_empty((rows, *like.shape[1:]))


def _flat(examples: tuple[Inputs, Tensor]) -> list[Tensor]:
    return [*batches.tensors(examples[0]), examples[1]]


def _itself(batch: Batch) -> Batch:
    return batch


def _refuse_batch_statistics(model: nn.Module) -> None:
    found = [name for name, module in model.named_modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    if found:
        raise ModelError(
            f"expected a model whose outputs depend on one example each, found batch normalization in {found}: "
            f"a gradient per example does not exist while it trains; use GroupNorm or LayerNorm"
        )


def _side_effects(model: nn.Module) -> dict[str, object]:
    """Return what a forward pass must leave alone: buffers, as identity and version, and torch's random numbers."""
    buffers = {f"buffer {name}": (id(value), value._version) for name, value in model.named_buffers()}
    return {"torch's random numbers": torch.get_rng_state().numpy().tobytes(), **buffers}


def _refuse_side_effects(before: dict[str, object], after: dict[str, object]) -> None:
    changed = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    if changed:
        raise ModelError(
            f"expected a forward pass without side effects, found it to use or change {changed}: with several threads "
            f"the result would be left to chance; set dropout to 0, or give the task a training recipe of its own"
        )
