"""Kronecker factors of every layer type, shape and batch size against the dense definition, from derivatives alone.

Axes: N examples, T positions, O outputs, I inputs of a block. A layer is linear in its parameters, so what it saw at a
position is its output's derivative by one output's parameters: no patch is cut out, no rule is used.
"""

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jacrev

from relatif.pipeline.curvature.coverage import coverage
from relatif.pipeline.curvature.examples import Examples
from relatif.pipeline.curvature.fisher import Fisher
from relatif.pipeline.curvature.kinds import NORMS
from relatif.pipeline.curvature.kronecker import kronecker_sums
from relatif.pipeline.curvature.likelihood import Categorical
from relatif.pipeline.curvature.model import CoveredModel
from tests.support.layers import LAYERS, inputs_for, randomized

torch.set_num_threads(1)

CLASSES = 3
EXACT = 1e-11
"""Relative to the largest entry: float64 sums of a few hundred terms in another order."""

PLAIN = sorted(name for name in LAYERS if not name.startswith(("conv transpose", "embedding bag")))
"""Layers whose inputs are those of a layer that is applied at every position of its outputs."""


def followed(name: str, kind: str, count: int) -> tuple[CoveredModel, Examples]:
    """Return the layer as first of a classifier, and examples."""
    torch.manual_seed(len(name) + count)
    make, shape = LAYERS[name]
    layer = randomized(make())
    inputs = inputs_for(layer, count, shape)
    head = nn.Linear(layer(inputs)[0].numel(), CLASSES).double()
    model = nn.Sequential(layer, nn.Tanh(), nn.Flatten(), head).eval()
    fisher = Fisher(kind)  # type: ignore[arg-type]
    examples = Examples(inputs, torch.randint(0, CLASSES, (count,)), 0)
    return CoveredModel(model, coverage(model), Categorical(CLASSES), fisher), examples


def terms(subject: CoveredModel, label: Tensor, logits: Tensor) -> list[tuple[float, int]]:
    """Return weight and label of an example's terms: its own label, or every label by the model's probability."""
    if subject.fisher.kind == "empirical":
        return [(1.0, int(label))]
    return [(float(p), y) for y, p in enumerate(logits.detach()[0].softmax(0))]


def channels_first(layer: nn.Module, sent: Tensor) -> Tensor:
    """Return what a layer sent for one example as [O, T]."""
    last = isinstance(layer, nn.Linear | nn.Embedding)
    return sent.reshape(-1, sent.shape[-1]).T if last else sent.flatten(1)


def seen_by(layer: nn.Module, example: Tensor) -> list[Tensor]:
    """Return what each group saw, [T, I], as the derivative of its first output by that output's parameters."""
    parameters = {name: parameter.detach() for name, parameter in layer.named_parameters()}
    by_parameter = jacrev(lambda p: channels_first(layer, functional_call(layer, p, (example[None],))[0]))(parameters)
    outputs = len(by_parameter["weight"])
    found = []
    for first in range(0, outputs, outputs // getattr(layer, "groups", 1)):
        own = by_parameter["weight"][first]
        own = own[:, :, first] if isinstance(layer, nn.Embedding) else own[:, first].flatten(1)
        bias = [by_parameter["bias"][first][:, first, None]] if "bias" in by_parameter else []
        found.append(torch.cat([own, *bias], dim=1))
    return found


def dense_factors(subject: CoveredModel, examples: Examples) -> list[tuple[Tensor, Tensor]]:
    """Return each group's ``sum_n mean_t a a'`` and ``sum_n sum_y weight sum_t d d'``, example by example."""
    layer, rest = subject.model[0], subject.model[1:]
    groups = getattr(layer, "groups", 1)
    inputs, outputs = [torch.zeros(()) for _ in range(groups)], [torch.zeros(()) for _ in range(groups)]
    for example, label in zip(examples.inputs, examples.targets, strict=True):
        for group, seen in enumerate(seen_by(layer, example)):
            inputs[group] = inputs[group] + sum(torch.outer(a, a) for a in seen) / len(seen)
        sent = layer(example[None]).detach().requires_grad_()
        logits = rest(sent)
        for weight, y in terms(subject, label, logits):
            (delta,) = torch.autograd.grad(-logits.log_softmax(1)[0, y], sent, retain_graph=True)
            for group, d in enumerate(channels_first(layer, delta[0]).chunk(groups)):
                outputs[group] = outputs[group] + weight * sum(torch.outer(v, v) for v in d.T)
    return list(zip(inputs, outputs, strict=True))


def dense_block(subject: CoveredModel, examples: Examples) -> Tensor:
    """Return the layer's block of the curvature itself, ``sum_n sum_y weight g g'``, [P, P]."""
    layer, total = subject.model[0], torch.zeros(())
    for example, label in zip(examples.inputs, examples.targets, strict=True):
        logits = subject.model(example[None])
        for weight, y in terms(subject, label, logits):
            loss = -logits.log_softmax(1)[0, y]
            parts = torch.autograd.grad(loss, list(layer.parameters()), retain_graph=True)
            g = torch.cat([part.flatten() for part in parts])
            total = total + weight * torch.outer(g, g)
    return total


def assert_close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=EXACT * float(expected.abs().max()))


@pytest.mark.parametrize("count", [1, 2, 7])
@pytest.mark.parametrize("kind", ["exact", "empirical"])
@pytest.mark.parametrize("name", PLAIN)
def test_factors_are_the_dense_definition(name: str, kind: str, count: int) -> None:
    subject, examples = followed(name, kind, count)
    sums = kronecker_sums(subject, examples)
    found = [sums.layers[block] for block in subject.coverage.layers["0"].blocks]

    assert sums.count == count
    if isinstance(subject.model[0], NORMS):
        (block,) = found
        assert_close(block.input_moment * block.output_moment / count, dense_block(subject, examples))
        return
    expected = dense_factors(subject, examples)
    for block, (inputs, outputs) in zip(found, expected, strict=True):
        # An embedding's moment is kept as its diagonal.
        assert_close(block.input_moment.diag() if block.input_moment.ndim == 1 else block.input_moment, inputs)
        assert_close(block.output_moment, outputs)


def reached(layer: nn.Module, delta: Tensor, example: Tensor, channel: int) -> Tensor:
    """Return, for each place of a channel, the output gradients that it reaches by each kernel's number, [T, O]."""
    weight = layer.weight.detach()  # type: ignore[union-attr]
    assert isinstance(weight, Tensor)
    places = []
    for place in range(example[0].numel()):
        alone = torch.zeros_like(example)
        alone[channel].view(-1)[place] = 1
        sent = lambda w, x=alone: functional_call(layer, {"weight": w}, (x[None],))[0]  # noqa: E731
        by_kernel = grad(lambda w, s=sent: (s(w) * delta).sum())(weight)
        places.append(by_kernel[channel].flatten())
    return torch.stack(places)


@pytest.mark.parametrize("name", sorted(name for name in LAYERS if name.startswith("conv transpose")))
def test_a_transposed_convolution_sees_its_inputs_and_sums_what_they_reach(name: str) -> None:
    subject, examples = followed(name, "empirical", 3)
    layer, rest = subject.model[0], subject.model[1:]  # type: ignore[index]
    sums = kronecker_sums(subject, examples).layers
    groups = layer.groups
    found = [sums["0" if groups == 1 else f"0.group{group}"] for group in range(groups)]

    a, b = ([torch.zeros((), dtype=torch.float64)] * groups for _ in range(2))
    c = torch.zeros((), dtype=torch.float64)
    for example, label in zip(examples.inputs, examples.targets, strict=True):
        sent = layer(example[None]).detach().requires_grad_()
        (delta,) = torch.autograd.grad(-rest(sent).log_softmax(1)[0, label], sent)
        for group, seen in enumerate(example.flatten(1).chunk(groups)):
            a[group] = a[group] + seen @ seen.T / seen.shape[1]
            patches = reached(layer, delta[0], example, group * len(seen))
            b[group] = b[group] + patches.T @ patches
        summed = delta[0].flatten(1).sum(1)
        c = c + torch.outer(summed, summed)
    for block, inputs, outputs in zip(found, a, b, strict=True):
        assert_close(block.input_moment, inputs)
        assert_close(block.output_moment, outputs)
    assert ("0.bias" in sums) == (layer.bias is not None)
    if layer.bias is not None:
        assert_close(sums["0.bias"].input_moment, c)


@pytest.mark.parametrize("name", sorted(name for name in LAYERS if name.startswith("embedding bag")))
def test_the_words_of_a_bag_are_positions(name: str) -> None:
    subject, examples = followed(name, "empirical", 5)
    layer, rest = subject.model[0], subject.model[1:]  # type: ignore[index]
    found = kronecker_sums(subject, examples).layers["0"]

    a, b = torch.zeros(6, dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    for ids, label in zip(examples.inputs, examples.targets, strict=True):
        kept = [word for word in ids.tolist() if word != layer.padding_idx]
        share = 1 / len(kept) if layer.mode == "mean" else 1.0
        for word in kept:
            a[word] += share**2 / len(ids)
        sent = layer(ids[None]).detach().requires_grad_()
        (delta,) = torch.autograd.grad(-rest(sent).log_softmax(1)[0, label], sent)
        b = b + len(ids) * torch.outer(delta[0], delta[0])
    assert_close(found.input_moment, a)
    assert_close(found.output_moment, b)
