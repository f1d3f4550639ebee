"""What a few examples don't show is found in the forward pass that would go wrong, and what is right passes."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from relatif.pipeline.auditing.audit import Sample, audit
from relatif.pipeline.curvature import ownership
from relatif.pipeline.curvature.capture import ForwardPass, forward_pass
from relatif.pipeline.curvature.model import CoveredModel
from relatif.pipeline.curvature.trail import picks_rows
from relatif.schemas.errors import ModelError
from tests.support import audited
from tests.support.audited import FEATURES, Net, Wire, plain

torch.set_num_threads(1)

RARE = 10
"""What the first number of an example is beyond, where a model does something else with it."""

ROUNDING = 1e-9
"""Relative: float64 sums in another order."""


def batch() -> Tensor:
    """Return examples [12, 6] of which two in the middle are rare."""
    values = torch.randn(12, FEATURES, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    values[5, 0], values[9, 0] = 20, 30
    return values


def rare(inputs: Tensor) -> Tensor:
    return inputs[:, 0] > RARE


def unseen(model: Net, inputs: Tensor) -> Tensor:
    """Use a weight by a function of one's own where there are rare examples."""
    return audited.beside(model, inputs) if bool(rare(inputs).any()) else plain(model, inputs)


def sorted_rows(model: Net, inputs: Tensor) -> Tensor:
    """Put rare examples first, and back at the end, as is done with lengths."""
    order = rare(inputs).logical_not().long().argsort(stable=True)
    return plain(model, inputs[order])[order.argsort()]


def selected(model: Net, inputs: Tensor) -> Tensor:
    """Sort by a function that takes an axis."""
    order = rare(inputs).logical_not().long().argsort(stable=True)
    return plain(model, inputs.index_select(0, order)).index_select(0, order.argsort())


def routed(model: Net, inputs: Tensor) -> Tensor:
    """Send two tokens of each example to two experts, of a rare one both to the first or both to the second."""
    tokens, chosen = torch.stack([inputs, inputs], dim=1).flatten(0, 1), torch.tensor([True, False] * len(inputs))
    chosen = torch.where(tokens[:, 0] > RARE, tokens[:, 0] < 2.5 * RARE, chosen)
    hidden = torch.zeros_like(tokens)
    hidden[chosen] = model.first(tokens[chosen]).tanh()
    hidden[~chosen] = model.first(tokens[~chosen]).sin()
    return model.head(hidden.unflatten(0, (-1, 2)).sum(dim=1))


def centred(model: Net, inputs: Tensor) -> Tensor:
    """Subtract the mean of a batch with rare examples."""
    return plain(model, inputs - inputs.mean(dim=0) if bool(rare(inputs).any()) else inputs)


def trimmed(model: Net, inputs: Tensor) -> Tensor:
    """Take the mean over as many numbers as the longest example of the batch has."""
    return plain(model, inputs / (6 if bool(rare(inputs).any()) else 3))


def dropped(model: Net, inputs: Tensor) -> Tensor:
    """Drop numbers of rare examples alone."""
    return plain(model, torch.where(rare(inputs)[:, None], functional.dropout(inputs), inputs))


class Averaging(nn.Module):
    """Keeps a running mean of rare examples, in evaluation too."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = audited.good()
        self.register_buffer("mean", torch.zeros(FEATURES))

    def forward(self, inputs: Tensor) -> Tensor:
        if bool(rare(inputs).any()):
            self.mean = 0.5 * self.mean + inputs[rare(inputs)].mean(dim=0)
        return self.inner(inputs - self.mean)  # type: ignore[no-any-return]


class Keeping(nn.Module):
    """Keeps what it made of a weight when it was made, with its graph."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = audited.good()
        self.kept = self.inner.first.weight.sum(dim=0)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.inner(inputs * self.kept)  # type: ignore[no-any-return]


def wired(wire: Wire) -> Callable[[], nn.Module]:
    return partial(Net, wire)


UNLIKE = "outputs to depend on that example alone, found those of row"
TWICE = "the same outputs for the same inputs, found them to differ"
OTHERS = "expected rows that layers see to be their examples'"

HIDDEN: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "function of its own": (wired(unseen), r"covered parameters to be seen, found one of first\.weight that is not"),
    "sorted": (wired(sorted_rows), OTHERS),
    "selected": (wired(selected), OTHERS),
    "experts": (wired(routed), OTHERS),
    "batch mean": (wired(centred), UNLIKE),
    "longest": (wired(trimmed), UNLIKE),
    "dropout": (wired(dropped), TWICE),
    "running mean": (Averaging, TWICE),
}


@pytest.mark.parametrize("name", HIDDEN)
def test_what_the_audited_rows_do_not_show_is_refused_where_it_happens(name: str) -> None:
    build, message = HIDDEN[name]
    subject, examples = audited.subject_of(build), audited.examples()
    audit(subject, Tensor.double, (Sample("train", examples.inputs, examples, "true"),))
    with pytest.raises(ModelError, match=message):
        forward_pass(subject.model, batch(), subject.coverage)


def test_what_was_kept_from_before_the_pass_is_refused() -> None:
    model = audited.built(audited.good)
    wrapped = Keeping()
    wrapped.inner = model
    wrapped.kept = model.first.weight.sum(dim=0)
    subject = audited.subject_of(lambda: wrapped)
    wrapped.kept = model.first.weight.sum(dim=0)
    with pytest.raises(ModelError, match=r"found one of inner\.first\.weight that is not"):
        forward_pass(wrapped, batch(), subject.coverage)


def own_rows(model: Net, inputs: Tensor) -> Tensor:
    """Pick each example's own number, and rows in their order."""
    every = torch.arange(len(inputs))
    picked = model.first(inputs)[every, (inputs > 0).sum(dim=1) % FEATURES]
    return model.head(model.first(inputs[every]).tanh() + picked[:, None])


def masked(model: Net, inputs: Tensor) -> Tensor:
    """Overwrite hidden numbers by a mask."""
    hidden = model.first(inputs)
    hidden[inputs > 0] = 0
    return model.head(hidden.tanh())


def drawing(model: Net, inputs: Tensor) -> Tensor:
    """Draw a number that decides nothing."""
    return plain(model, inputs) if float(torch.rand(())) < 2 else inputs


def empty(model: Net, inputs: Tensor) -> Tensor:
    """Give a layer the rows of a mask that has none in it, and one that has all."""
    return model.head(model.first(inputs[inputs[:, 0] < 1e9])) + model.head(inputs[inputs[:, 0] > 1e9]).sum()


RIGHT: dict[str, Wire] = {"own": own_rows, "masked": masked, "drawing": drawing, "none": empty}


@pytest.mark.parametrize("name", RIGHT)
def test_what_is_right_passes_with_the_gradients_of_each_example(name: str) -> None:
    subject = audited.subject_of(wired(RIGHT[name]))
    inputs = batch()[:11]
    forward = forward_pass(subject.model, inputs, subject.coverage)
    gradients = weights_of(subject, forward)
    for row in range(len(inputs)):
        (expected,) = torch.autograd.grad(subject.model(inputs[row : row + 1]).sum(), subject.model.first.weight)
        torch.testing.assert_close(gradients[row], expected, rtol=ROUNDING, atol=ROUNDING)


def weights_of(subject: CoveredModel, forward: ForwardPass) -> Tensor:
    found = forward.gradients(forward.backward(torch.ones_like(forward.outputs)))
    blocks = {name: each.dense() for name, each in found.items()}
    return subject.coverage.parameter_values(blocks)["first.weight"]


def test_which_functions_may_put_a_row_in_anothers_place() -> None:
    values, ids = torch.zeros(3, 4), torch.tensor([0, 2, 1])
    picking = [
        (Tensor.__getitem__, (values, ids)),
        (Tensor.__getitem__, (values, ids > 0)),
        (Tensor.__getitem__, (values, (slice(1, None), ids))),
        (Tensor.__setitem__, (values, ids, 0)),
        (torch.index_select, (values, 0, ids)),
        (torch.gather, (values, 0, ids[None])),
        (torch.sort, (values, 0)),
        (torch.topk, (ids, 2)),
        (Tensor.masked_select, (values, values > 0)),
    ]
    keeping = [
        (Tensor.__getitem__, (values, 1)),
        (Tensor.__getitem__, (values, (slice(None), ids))),
        (Tensor.__getitem__, (values, (..., ids))),
        (Tensor.__getitem__, (values, (torch.arange(3), ids))),
        (torch.index_select, (values, 1, ids)),
        (torch.sort, (values,)),
        (torch.topk, (values, 2)),
        (torch.relu, (values,)),
    ]
    assert [picks_rows(func, args, {}, 3) for func, args in picking] == [True] * len(picking)  # type: ignore[arg-type]
    assert [picks_rows(func, args, {}, 3) for func, args in keeping] == [False] * len(keeping)  # type: ignore[arg-type]
    assert not picks_rows(torch.gather, (values,), {"dim": 1, "index": ids[:, None]}, 3)
    assert picks_rows(torch.topk, (values, 2), {"dim": 0}, 3)


def turned(model: Net, inputs: Tensor) -> Tensor:
    """Turn a batch with rare examples round, and back."""
    return plain(model, inputs.flip(0)).flip(0) if bool(rare(inputs).any()) else plain(model, inputs)


def doubled(model: Net, inputs: Tensor) -> Tensor:
    """Put two copies of a large batch below one another."""
    both = inputs if len(inputs) < 8 else torch.cat([inputs, inputs])
    return plain(model, both).unflatten(0, (-1, len(inputs))).mean(dim=0)


class _Centred(torch.autograd.Function):
    @staticmethod
    def forward(context: object, inputs: Tensor, centre: bool) -> Tensor:  # type: ignore[override]
        context.centre = centre  # type: ignore[attr-defined]
        return inputs.clone()

    @staticmethod
    def backward(context: object, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        centre = context.centre  # type: ignore[attr-defined]
        return (gradient - gradient.mean(dim=0) if centre else gradient), None


def centred_on_the_way_back(model: Net, inputs: Tensor) -> Tensor:
    """Mix gradients of a batch with rare examples."""
    return model.head(_Centred.apply(model.first(inputs), bool(rare(inputs).any())))


@pytest.mark.parametrize("wire", [turned, centred_on_the_way_back])
def test_a_pass_unlike_those_before_is_looked_at(wire: Wire) -> None:
    subject, common = audited.subject_of(wired(wire)), batch()[:5]
    forward_pass(subject.model, common, subject.coverage)
    with pytest.raises(ModelError, match=OTHERS):
        forward_pass(subject.model, batch()[3:8], subject.coverage)
    forward_pass(subject.model, common + 1, subject.coverage)


def test_copies_of_a_large_batch_are_not_taken_for_positions() -> None:
    subject = audited.subject_of(wired(doubled))
    forward_pass(subject.model, batch()[:7], subject.coverage)
    with pytest.raises(ModelError, match=OTHERS):
        forward_pass(subject.model, batch(), subject.coverage)


def test_equal_passes_are_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looked = []
    monkeypatch.setattr(ownership, "check_rows", lambda *given: looked.append(given) or True)
    subject = audited.subject_of(audited.good)
    for rows in (5, 5, 4, 5):
        forward_pass(subject.model, batch()[:rows], subject.coverage)
    assert len(looked) == 2
