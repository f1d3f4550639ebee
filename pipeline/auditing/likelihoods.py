"""What a loss has to be so that scores mean something: minus the logarithm of a probability, example by example.

Axes: N examples, C classes.
"""

from collections.abc import Callable
from itertools import islice

import torch
from torch import Tensor
from torch.nn import functional

from relatif.pipeline.auditing.outputs import SAME, apart_alone, difference
from relatif.pipeline.curvature.class_weights import Weighting
from relatif.pipeline.curvature.examples import Examples
from relatif.pipeline.curvature.fisher import Fisher, fisher_gradients
from relatif.pipeline.curvature.likelihood import Categorical, Likelihood, cross_entropy, differentiated
from relatif.schemas.errors import ModelError

NORMALIZED = 1e-6
"""Of a sum of probabilities: float64 rounds to about 1e-15, and weights, smoothing or another logarithm move it by far
more."""

TERMS = 8
"""Terms of a Fisher that are looked at, where its targets are no classes."""


def check_likelihood(
    likelihood: Likelihood, fisher: Fisher, outputs: Tensor, examples: Examples, split: str
) -> dict[str, float]:
    """Return how far losses of outputs [N, ...] are from what those of a likelihood are.

    Raises ModelError where that is too far. Losses are finite, one for each example and of that example alone, leave
    outputs and targets as they were, have the gradient that the likelihood says, and belong to probabilities that sum
    to 1.
    """
    _check_width(likelihood, outputs)
    found = _check_losses(likelihood, outputs, examples, split)
    found |= _check_gradient(likelihood, outputs, examples.targets)
    if isinstance(likelihood, Categorical) and likelihood.weighting is not None:
        # What is weighed has to be a likelihood, although the weighted loss is none.
        found |= _check_weighted(likelihood, likelihood.weighting, outputs, examples.targets)
        _check_terms(likelihood, fisher, outputs, examples)
        likelihood = likelihood.likelihood
    if likelihood.classes is not None:
        return found | _check_classes(likelihood, likelihood.classes, outputs, examples, split)
    _check_terms(likelihood, fisher, outputs, examples)
    rule = getattr(likelihood, "total_probability", None)
    if rule is None:
        return found
    return found | {
        "total probability": _check_total(rule(outputs), examples, split, _inherited(likelihood) or _ADVICE)
    }


def _inherited(likelihood: Likelihood) -> str | None:
    """Return in words that a rule for the probabilities is of another class than the losses that it is to sum."""
    rule, losses = (_class_of(getattr(likelihood, name)) for name in ("total_probability", "losses"))
    if rule == losses:
        return None
    return (
        f", or total_probability of {rule} does not fit the losses of {losses}: define it where the losses are defined "
        f"(total_probability = None leaves this check out)"
    )


def _class_of(method: Callable[..., object]) -> str:
    """Return the name of the class that defines a method, guarded or not."""
    function = getattr(method, "function", method)
    return str(getattr(function, "__qualname__", "")).rpartition(".")[0].rpartition(".")[2]


def _check_width(likelihood: Likelihood, outputs: Tensor) -> None:
    """Refuse other than one score for each class, where the loss is this project's cross-entropy."""
    if isinstance(likelihood, Categorical) and likelihood.loss is cross_entropy:
        _refuse_width(likelihood.classes, outputs)


def _refuse_width(classes: int, outputs: Tensor) -> None:
    if outputs.shape[1:] != (classes,):
        raise ModelError(
            f"expected a score for each of {classes} classes, found outputs of shape "
            f"{list(outputs.shape)} for {len(outputs)} examples; let the model return as many scores as the task has "
            f"classes"
        )


def _alike(one: Tensor, other: Tensor) -> bool:
    """Return whether tensors are equal; numbers that are left out, NaN, are those of the other one."""
    return one.shape == other.shape and bool(((one == other) | (one.isnan() & other.isnan())).all())


def _check_losses(likelihood: Likelihood, outputs: Tensor, examples: Examples, split: str) -> dict[str, float]:
    mine, targets = outputs.clone(), examples.targets.clone()
    losses = likelihood.losses(mine, targets)
    if not (_alike(mine, outputs) and _alike(targets, examples.targets)):
        raise ModelError(
            "expected the loss to leave outputs and targets as they were, found them changed in place; copy them first"
        )
    if losses.dtype != outputs.dtype:
        raise ModelError(
            f"expected losses in the outputs' precision {outputs.dtype}, found {losses.dtype}; leave casts out of the "
            f"task's loss"
        )
    broken = torch.nonzero(~losses.isfinite()).flatten()
    if len(broken):
        raise ModelError(
            f"expected finite losses, found {float(losses[broken[0]])} for {split} example "
            f"{examples.first_index + int(broken[0])}; look at that example and at the task's loss"
        )
    apart = apart_alone(likelihood.losses, outputs, targets, losses)
    if not apart <= SAME:
        raise ModelError(
            f"expected the loss of an example to depend on that example alone, found {split} examples to differ by "
            f"{apart:.2g} of the largest without the rest of their batch; take no mean over the batch and no batch's "
            f"weights (a loss over pairs of examples, such as a contrastive one, has no influence of one example)"
        )
    return {"loss alone as in a batch": apart}


def _check_gradient(likelihood: Likelihood, outputs: Tensor, targets: Tensor) -> dict[str, float]:
    """Compare the gradient at the outputs, which a likelihood may compute in a way of its own, with autograd's."""
    mine = likelihood.gradient(outputs, targets)
    if mine.shape != outputs.shape or not bool(mine.isfinite().all()):
        raise ModelError(
            f"expected a finite gradient of the outputs' shape {list(outputs.shape)}, found shape {list(mine.shape)}"
            f"{'' if mine.shape != outputs.shape else ' with values that are not finite'}; look at the task's loss"
        )
    # Relative to 1: where a label is almost certain autograd's is a difference of probabilities near 1.
    apart = float((mine - differentiated(likelihood.losses, outputs, targets)).abs().max())
    apart /= max(1.0, float(mine.abs().max()))
    if not apart <= SAME:
        raise ModelError(
            f"expected the likelihood's gradient to be that of its losses, found them to differ by {apart:.2g}; "
            f"correct its method gradient, or let it call relatif.differentiated(self.losses, outputs, targets)"
        )
    return {"gradient at the outputs": apart}


def _check_weighted(
    likelihood: Categorical, weighting: Weighting, outputs: Tensor, targets: Tensor
) -> dict[str, float]:
    """Compare losses with ``sum_c q_c w_c (-log p_c)``, as torch defines them with class weights and smoothing."""
    weights = (
        outputs.new_ones(likelihood.classes) if weighting.weights is None else outputs.new_tensor(weighting.weights)
    )
    smooth = functional.one_hot(targets, likelihood.classes).to(outputs) * (1 - weighting.smoothing)
    smooth += weighting.smoothing / likelihood.classes
    expected = -(smooth * weights * outputs.log_softmax(dim=1)).sum(dim=1)
    apart = difference(expected, likelihood.losses(outputs, targets))
    if not apart <= SAME:
        raise ModelError(
            f"expected torch's cross_entropy with these class_weights and label_smoothing as the loss, found one that "
            f"differs by {apart:.2g}; correct the likelihood's method losses"
        )
    return {"weighted loss": apart}


def _check_classes(
    likelihood: Likelihood, classes: int, outputs: Tensor, examples: Examples, split: str
) -> dict[str, float]:
    """Sum the probabilities of all labels, and compare the predicted label with the most probable one."""
    labels = torch.arange(classes, device=outputs.device)
    every = torch.stack([likelihood.losses(outputs, label.expand(len(outputs))) for label in labels], dim=1)
    if bool((every < -NORMALIZED).any()):
        raise ModelError(
            f"expected losses of at least 0, as minus the logarithm of a probability is, found "
            f"{float(every.min()):.4g}{_ADVICE}"
        )
    total = every.neg().exp().sum(dim=1)
    if outputs.ndim == 2 and not float((total - 1).abs().max()) <= NORMALIZED:
        _refuse_width(classes, outputs)  # the likelier reason
    apart = _check_total(total, examples, split, _ADVICE)
    predicted = likelihood.explained(outputs, examples.targets, "predicted")
    lost = every.gather(1, predicted[:, None])[:, 0] - every.amin(dim=1)
    if not float(lost.max()) <= NORMALIZED:
        row = int(lost.argmax())
        raise ModelError(
            f"expected the likelihood to predict the label of the most probable class, found {split} example "
            f"{examples.first_index + row} predicted as {int(predicted[row])}, which is less probable than "
            f"{int(every[row].argmin())}; correct its method explained"
        )
    return {"total probability": apart}


def _check_total(total: Tensor, examples: Examples, split: str, advice: str) -> float:
    apart = (total - 1).abs()
    if not float(apart.max()) <= NORMALIZED:
        row = int(apart.argmax())
        raise ModelError(
            f"expected exp(-loss) to sum to 1 over all targets, found {float(total[row]):.6g} for {split} example "
            f"{examples.first_index + row}: the loss is no negative log-likelihood in nats{advice}"
        )
    return float(apart.max())


def _check_terms(likelihood: Likelihood, fisher: Fisher, outputs: Tensor, examples: Examples) -> None:
    """Refuse terms of the Fisher without one finite weight of at least 0 for each example."""
    terms = fisher_gradients(fisher, likelihood, outputs, examples.targets, first_index=examples.first_index)
    for gradient, weights in islice(terms, TERMS):
        if weights.shape != (len(outputs),) or not bool((weights >= 0).all() and weights.isfinite().all()):
            raise ModelError(
                f"expected the likelihood's expectation to weigh each of {len(outputs)} examples by a number of at "
                f"least 0, found {weights.flatten().tolist()[:4]}; correct its method expectation"
            )
        if gradient.shape != outputs.shape or not bool(gradient.isfinite().all()):
            raise ModelError(
                f"expected finite gradients of shape {list(outputs.shape)} at the targets of the likelihood's "
                f"expectation, found shape {list(gradient.shape)}; correct its methods expectation and gradient"
            )


_ADVICE = (
    "; leave class weights, label smoothing, penalties and focal factors out of the task's loss, and use them, "
    "where they are wanted, in train alone (Categorical takes class_weights and label_smoothing); give targets that "
    "are no classes a likelihood of their own"
)
