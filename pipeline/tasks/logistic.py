"""Multinomial logistic regression, trained to its optimum.

Axes: N examples, C classes, D inputs, I = D + 1 inputs with the bias folded in.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial, reduce

import torch
from torch import Tensor, nn

from relatif.pipeline.tasks.newton import NewtonRetraining
from relatif.pipeline.tasks.softmax import folded_inputs, loss_and_gradient, require_plain
from relatif.pipeline.tasks.task import Task, TrainingSet, cross_entropy, tell
from relatif.schemas.config import TrainConfig
from relatif.schemas.errors import ModelError, NumericalError

LBFGS_HISTORY = 30


class LogisticRegression(nn.Module):
    """One linear layer with bias from flattened inputs [N, ...] to logits [N, C]."""

    def __init__(self, input_count: int, class_count: int) -> None:
        """Make the layer with PyTorch's default initialization."""
        super().__init__()
        self.linear = nn.Linear(input_count, class_count)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits [N, C]."""
        return self.linear(inputs.flatten(1))


def mnist_logistic() -> Task:
    """Return logistic regression 784 -> 10 on pixels scaled to [0, 1], the paper's LR."""
    return Task(
        name="mnist_logistic",
        class_count=10,
        build_model=partial(LogisticRegression, 784, 10),
        model_inputs=_scaled_pixels,
        loss=cross_entropy,
        train=train_to_optimum,
        retrain=NewtonRetraining(),
    )


def toy_logistic() -> Task:
    """Return logistic regression 2 -> 2 on points of the plane, the paper's Fig. 1."""
    return Task(
        name="toy_logistic",
        class_count=2,
        build_model=partial(LogisticRegression, 2, 2),
        model_inputs=Tensor.float,
        loss=cross_entropy,
        train=train_to_optimum,
        retrain=NewtonRetraining(),
    )


def train_to_optimum(task: Task, data: TrainingSet, config: TrainConfig) -> dict[str, Tensor]:
    """Minimize mean cross-entropy + weight_decay / 2 ||theta||^2 by L-BFGS in float64 on the full training set.

    The optimizer moves in coordinates whitened by the curvature at theta = 0, where p(y | x) is uniform and the Fisher
    is exactly Kronecker-factored, ``A x (I - 11'/C) / C``; that takes the inputs' conditioning out of the problem.
    Sums run over shards in index order, so the result is the same for any number of threads.

    Raises NumericalError when ``config.max_iterations`` do not reach ``config.tolerance`` and for inputs that are not
    finite, ModelError for a model that is no LogisticRegression.
    """
    require_plain(task)
    with torch.random.fork_rng(devices=[]):
        # The seed decides where the search starts; the caller's own random numbers stay as they were.
        torch.manual_seed(config.seed)
        layer = _only_linear(task.build_model()).to(data.device)
    folded = partial(folded_inputs, task, device=data.device)
    moment = reduce(torch.add, data.batches(lambda batch: _input_moment(folded(batch)))) / data.rows
    if not bool(moment.isfinite().all()):
        raise NumericalError(
            "expected finite inputs, found some that are not (or are too large to square); look for them in the data"
        )
    whitening = _whitening(moment, curvature_scale=1 / layer.out_features, weight_decay=config.weight_decay)
    start = torch.cat([layer.weight, layer.bias[:, None]], dim=1).detach().double()
    # What all classes have in common changes no probability: only weight decay would remove it, slowly.
    start -= start.mean(dim=0)

    def objective(theta: Tensor) -> tuple[Tensor, Tensor]:
        terms = data.batches(lambda batch: loss_and_gradient(theta, folded(batch), batch.labels.to(data.device)))
        loss, gradient = reduce(lambda left, right: (left[0] + right[0], left[1] + right[1]), terms)
        decay = config.weight_decay
        return loss / data.rows + decay / 2 * theta.square().sum(), gradient / data.rows + decay * theta

    theta = _minimize(objective, whitening, start, config, data).cpu()
    return {"linear.weight": theta[:, :-1].float().contiguous(), "linear.bias": theta[:, -1].float().contiguous()}


@dataclass(frozen=True)
class _Whitening:
    """theta = phi diag(scale) Q', with Q [I, I] and scale [I]."""

    basis: Tensor
    scale: Tensor

    def theta(self, phi: Tensor) -> Tensor:
        return (phi * self.scale) @ self.basis.T

    def phi(self, theta: Tensor) -> Tensor:
        return (theta @ self.basis) / self.scale

    def gradient(self, theta_gradient: Tensor) -> Tensor:
        return (theta_gradient @ self.basis) * self.scale


def _whitening(moment: Tensor, *, curvature_scale: float, weight_decay: float) -> _Whitening:
    values, basis = torch.linalg.eigh(moment)
    # At theta = 0 the output factor's eigenvalues are 1 / C, and 0 for what all classes have in common.
    curvature = curvature_scale * values.clamp(min=0) + weight_decay
    # An input that is always 0 has no curvature without weight decay: the floor keeps its scale finite.
    floor = torch.finfo(curvature.dtype).eps * float(curvature.max())
    return _Whitening(basis, curvature.clamp(min=floor).rsqrt())


def _minimize(
    objective: Callable[[Tensor], tuple[Tensor, Tensor]],
    whitening: _Whitening,
    start: Tensor,
    config: TrainConfig,
    data: TrainingSet,
) -> Tensor:
    phi = whitening.phi(start).requires_grad_()
    optimizer = torch.optim.LBFGS(
        [phi],
        max_iter=config.max_iterations,
        max_eval=2 * config.max_iterations,
        tolerance_grad=config.tolerance,
        # A small change does not end the search: only a small gradient means an optimum.
        tolerance_change=0,
        history_size=LBFGS_HISTORY,
        line_search_fn="strong_wolfe",
    )

    entries: list[float] = []

    def closure() -> Tensor:
        loss, gradient = objective(whitening.theta(phi.detach()))
        phi.grad = whitening.gradient(gradient)
        entries.append(float(phi.grad.abs().max()))
        share, largest = share_of_descent(entries, config.tolerance), entries[-1]
        tell(
            data,
            share,
            f"pass {len(entries)}, loss {float(loss):.6g}, "
            f"largest gradient entry {largest:.2g} of {config.tolerance:g}",
        )
        return loss

    optimizer.step(closure)
    # The line search may have evaluated another point last: take the gradient at the result.
    closure()
    assert phi.grad is not None
    largest = float(phi.grad.abs().max())
    if not largest <= config.tolerance:
        raise NumericalError(
            f"expected training to reach a largest preconditioned gradient entry of {config.tolerance:g} "
            f"(train.tolerance), found {largest:.3g} after at most {config.max_iterations} iterations; "
            f"raise train.max_iterations or train.tolerance"
        )
    return whitening.theta(phi.detach())


def share_of_descent(entries: Sequence[float], tolerance: float) -> float | None:
    """Return about how far a search is, from what went down so far: it falls by about the same factor in each pass."""
    first, least = entries[0], min(entries)
    if not 0 < tolerance < first or least <= 0:
        return None
    return min(1.0, math.log(first / least) / math.log(first / tolerance))


def _input_moment(inputs: Tensor) -> Tensor:
    return inputs.T @ inputs


def _scaled_pixels(inputs: Tensor) -> Tensor:
    return inputs.float().div_(255)


def _only_linear(model: nn.Module) -> nn.Linear:
    if not isinstance(model, LogisticRegression):
        raise ModelError(
            f"expected a LogisticRegression to train to its optimum, found {type(model).__name__}; "
            f"give the task a training recipe of its own"
        )
    return model.linear
