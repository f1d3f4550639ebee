"""Models whose outputs depend on more than an example and the checkpoint are refused, each by one check alone."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from relatif.pipeline.auditing.outputs import (
    built_at,
    check_reading,
    check_rebuilt,
    check_recorded,
    check_repeatable,
    difference,
    outputs_of,
)
from relatif.pipeline.curvature.examples import Examples
from relatif.schemas.errors import ModelError, NumericalError, TaskError
from tests.support import audited
from tests.support.audited import Net, plain

torch.set_num_threads(1)

HIDDEN = audited.FEATURES


def centred(model: Net, inputs: Tensor) -> Tensor:
    return plain(model, inputs - inputs.mean(dim=0))


def attending(model: Net, inputs: Tensor) -> Tensor:
    return plain(model, (inputs @ inputs.T).softmax(dim=1) @ inputs)


def numbered(model: Net, inputs: Tensor) -> Tensor:
    return plain(model, inputs) * torch.arange(1, len(inputs) + 1)[:, None]


def normed_across(model: Net, inputs: Tensor) -> Tensor:
    return plain(model, functional.normalize(inputs, dim=0))


def normed_by_batch(model: Net, inputs: Tensor) -> Tensor:
    hidden = functional.batch_norm(model.first(inputs).reshape(-1, 2, HIDDEN // 2), None, None, training=True)
    return model.head(hidden.flatten(1).tanh())


def set_to_train(model: Net, inputs: Tensor) -> Tensor:
    return model.head(model.norm.train()(model.first(inputs)[:, :, None].expand(-1, -1, 2)).mean(dim=2))


def without_statistics() -> nn.Module:
    return Net(normed_by_layer, norm=nn.BatchNorm1d(2, affine=False, track_running_stats=False))


def normed_by_layer(model: Net, inputs: Tensor) -> Tensor:
    return model.head(model.norm(model.first(inputs).reshape(-1, 2, HIDDEN // 2)).flatten(1).tanh())


MIXING: dict[str, Callable[[], nn.Module]] = {
    "mean of the batch": partial(Net, centred),
    "attention across the batch": partial(Net, attending),
    "place in the batch": partial(Net, numbered),
    "normalized across the batch": partial(Net, normed_across),
    "statistics of the batch": partial(Net, normed_by_batch),
    "batch norm without statistics": without_statistics,
}


@pytest.mark.parametrize("name", MIXING)
def test_a_model_that_mixes_examples_is_refused(name: str) -> None:
    model, examples = audited.built(MIXING[name]), audited.examples()
    with pytest.raises(ModelError, match="outputs to depend on that example alone, found those of test examples to"):
        check_repeatable(model, examples, "test")
    check_rebuilt(model, MIXING[name], examples.inputs)


def paired(model: Net, inputs: Tensor) -> Tensor:
    hidden = functional.normalize(plain(model, inputs), dim=1)
    return hidden @ hidden.T


def test_similarities_of_all_pairs_are_refused_as_that() -> None:
    rows = audited.examples()
    with pytest.raises(
        ModelError,
        match=r"differ by their shape, \[4, 4\] in a batch of 4 and \[1, 1\] alone, .*have no influence of one example",
    ):
        check_repeatable(audited.built(partial(Net, paired)), rows, "test")


def test_batch_norm_that_the_forward_pass_sets_to_training_is_refused() -> None:
    model = audited.built(partial(Net, set_to_train, norm=nn.BatchNorm1d(HIDDEN, affine=False)))
    with pytest.raises(ModelError, match=r"depend on that example alone|the same outputs for the same inputs"):
        check_repeatable(model, audited.examples(), "train")


def test_a_model_that_fails_on_one_example_is_refused() -> None:
    model = audited.built(partial(Net, lambda model, inputs: functional.batch_norm(plain(model, inputs), None, None, training=True)))  # fmt: skip # noqa: E501
    with pytest.raises(ModelError, match="also computes one example alone, found ValueError: Expected more than 1"):
        check_repeatable(model, audited.examples(), "train")


def test_an_axis_that_one_example_loses_is_refused() -> None:
    model = audited.built(partial(Net, lambda model, inputs: plain(model, inputs).squeeze()))
    with pytest.raises(ModelError, match=r"the 1 examples as first axis, found float64 \[3\] for inputs"):
        check_repeatable(model, audited.examples(), "train")


class Counting(nn.Module):
    """Gives another output with every call."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.calls = audited.good(), 0

    def forward(self, inputs: Tensor) -> Tensor:
        self.calls += 1
        return self.inner(inputs) * self.calls


class Remembering(nn.Module):
    """Adds the inputs of the call before, as a running statistic that never stops would."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.last = audited.good(), torch.zeros(HIDDEN)

    def forward(self, inputs: Tensor) -> Tensor:
        found = self.inner(inputs + self.last)
        self.last = inputs[-1]
        return found


RESTLESS: dict[str, Callable[[], nn.Module]] = {
    "dropout left on": partial(Net, lambda model, x: model.head(functional.dropout(model.first(x), training=True))),
    "noise": partial(Net, lambda model, x: plain(model, x + 0.1 * torch.randn_like(x))),
    "counts calls": Counting,
    "remembers inputs": Remembering,
}


@pytest.mark.parametrize("name", RESTLESS)
def test_a_model_that_gives_something_else_the_second_time_is_refused(name: str) -> None:
    torch.manual_seed(0)
    with pytest.raises(ModelError, match="the same outputs for the same inputs in evaluation mode, found them to dif"):
        check_repeatable(audited.built(RESTLESS[name]), audited.examples(), "train")


class Shuffled(nn.Module):
    """Reads features in an order of its own, drawn once, which is held as ``keep`` says."""

    def __init__(self, keep: str, *, start: float = 1.0) -> None:
        super().__init__()
        order = torch.randperm(HIDDEN)
        if keep == "plain":
            self.order = order
        else:
            self.register_buffer("order", order, persistent=keep == "buffer")
        self.inner = audited.good()
        nn.init.constant_(self.inner.head.weight, start)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.inner(inputs[:, self.order])


@pytest.mark.parametrize("keep", ["plain", "not persistent"])
@pytest.mark.parametrize("start", [1.0, 0.0])
def test_random_numbers_that_no_checkpoint_has_are_refused(keep: str, start: float) -> None:
    build, examples = partial(Shuffled, keep, start=start), audited.examples()
    model = audited.built(build)
    check_repeatable(model, examples, "train")
    with pytest.raises(ModelError, match=r"random numbers that are neither \(order\); make them buffers"):
        check_rebuilt(model, build, examples.inputs)


def test_random_numbers_in_a_buffer_are_fine() -> None:
    build = partial(Shuffled, "buffer")
    assert check_rebuilt(audited.built(build), build, audited.examples().inputs) == {"built alike": 0.0}


def test_shapes_left_to_chance_are_refused() -> None:
    sizes = iter((5, 7))
    build = lambda: nn.Sequential(nn.Linear(HIDDEN, next(sizes)), nn.Flatten())  # noqa: E731
    with pytest.raises(ModelError, match=r"the same parameters and buffers every time, found .*size mismatch"):
        check_rebuilt(audited.built(build), build, audited.examples().inputs)


def test_a_model_that_is_not_built_anew_is_left_alone() -> None:
    one = audited.built(audited.good)
    assert check_rebuilt(one, lambda: one, audited.examples().inputs) == {"built alike": 0.0}


def test_building_leaves_the_callers_random_numbers_alone() -> None:
    torch.manual_seed(5)
    expected = torch.randn(3)
    torch.manual_seed(5)
    built_at(audited.good, 1)
    assert torch.equal(torch.randn(3), expected)


@pytest.mark.parametrize(
    ("wire", "message"),
    [
        (
            lambda m, x: {"logits": None, "attentions": (plain(m, x),)},
            r"first axis, found dict with keys \['attentions', 'logits'\] for inputs .*; return the outputs alone",
        ),
        (lambda m, x: (plain(m, x), x), r"to return one batch of outputs, found 2 \(0: float64 "),
        (lambda m, x: plain(m, x).argmax(dim=1), "in torch.float64, .* found torch.int64"),
        (lambda m, x: plain(m, x).float(), r"outputs in torch.float64, .* found torch.float32; leave casts"),
        (lambda m, x: plain(m, x.float()), r"also computes in float64, .*mat1 and mat2 .*cast to the type of a param"),
        (lambda m, x: m.head(m.first(x) @ torch.ones(6, 6)), "also computes in float64, as scores do, found one for"),
        (lambda m, x: plain(m, x).sum(), r"the 4 examples as first axis, found float64 \[\]"),
    ],
)
def test_outputs_that_are_no_float64_tensor_of_the_examples_are_refused(wire: audited.Wire, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        outputs_of(audited.built(partial(Net, wire)), audited.examples().inputs)


def test_an_error_of_the_models_own_is_passed_on() -> None:
    model = audited.built(partial(Net, lambda model, inputs: model.head(inputs[:, :2])))
    with pytest.raises(TaskError, match=r"forward pass of the model Net .*shapes cannot be multiplied"):
        outputs_of(model, audited.examples().inputs)
    assert next(model.parameters()).dtype == torch.float64


def test_an_input_is_left_as_it_was() -> None:
    examples = audited.examples()
    check_repeatable(audited.built(partial(Net, audited.in_place)), examples, "train")
    assert torch.equal(examples.inputs, audited.examples().inputs)


def test_outputs_that_are_not_finite_are_refused_by_row() -> None:
    inputs = audited.examples().inputs
    inputs[2] = torch.inf
    with pytest.raises(NumericalError, match="found those of test example 22 not to be"):
        check_repeatable(audited.built(audited.good), Examples(inputs, torch.zeros(4).long(), 20), "test")


STORED = torch.arange(24.0).reshape(4, 6)

READINGS: dict[str, tuple[Callable[[Tensor], object], str]] = {
    "in place": (lambda x: x.div_(255), "to leave stored inputs as they were, found them changed in place"),
    "batch mean": (lambda x: x - x.mean(dim=0), "found train examples to differ by .* in a batch; use fixed numbers"),
    "augmented": (lambda x: x + torch.randn_like(x), "found train examples to differ by .* the second time"),
    "batch length": (lambda x: x[:, : len(x)], r"the same shape, found \[4\] in a batch and \[1\] alone; pad"),
    "numpy": (lambda x: x.numpy(), "return a tensor with the 4 examples as first axis, found numpy.ndarray"),
    "flattened": (lambda x: x.flatten(), r"the 4 examples as first axis, found float32 \[24\]"),
    "complex": (torch.fft.fft, "to return real numbers, found torch.complex64"),
}


@pytest.mark.parametrize("name", READINGS)
def test_a_reading_of_inputs_that_is_not_always_alike_is_refused(name: str) -> None:
    model_inputs, message = READINGS[name]
    with pytest.raises(ModelError, match=message):
        check_reading(model_inputs, STORED.clone(), "train")  # type: ignore[arg-type]


def test_a_reading_example_by_example_passes() -> None:
    assert check_reading(lambda stored: (stored - 3) / 7, STORED.clone(), "train") == {"read alike": 0.0}


def test_difference_is_relative_to_the_largest_entry() -> None:
    one = torch.tensor([2.0, 4.0])
    assert difference(one, torch.tensor([2.0, 3.0])) == 0.25
    assert difference(one, torch.zeros(3)) == float("inf")
    assert difference(torch.zeros(2), torch.zeros(2)) == difference(torch.empty(0), torch.empty(0)) == 0.0


def test_another_function_with_gradients_is_refused() -> None:
    model = audited.built(partial(Net, lambda m, x: plain(m, x) * (2 if torch.is_grad_enabled() else 1)))
    inputs = audited.examples().inputs
    outputs = outputs_of(model, inputs)
    assert check_recorded(outputs, outputs.clone(), "train") == {"same with gradients": 0.0}
    with pytest.raises(ModelError, match=r"expected the same outputs with gradients as without, .* by 0\.5 of"):
        check_recorded(outputs, model(inputs).detach(), "train")
