"""Kronecker factors of every layer type against the dense float64 definition, example by example and label by label."""

import pytest
import torch
from torch import Tensor, nn

from pipeline.curvature.coverage import coverage
from pipeline.curvature.eigen import KroneckerBasis
from pipeline.curvature.fisher import Fisher, fisher_terms
from pipeline.curvature.kronecker import eigenbasis, kronecker_sums, spectrum_sums
from pipeline.curvature.subject import Examples, Subject
from pipeline.tasks.task import cross_entropy

torch.set_num_threads(1)

CLASSES = 3
EXACT = 1e-11
"""Relative to the largest entry: float64 sums of a few hundred terms in another order."""


class Tokens(nn.Module):
    """Embedding, a layer at every position, normalization: the parts of a small sequence model."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.mix = nn.Embedding(7, 4, padding_idx=0), nn.Linear(4, 5)
        self.norm, self.head = nn.LayerNorm(5), nn.Linear(5, CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(self.norm(self.mix(self.embedding(inputs.long())).tanh()).mean(dim=1))


def images() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, stride=2, padding=1, groups=2),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 4, 2, bias=False),
        nn.GroupNorm(2, 4),
        nn.Flatten(),
        nn.Linear(16, CLASSES),
    )


def series() -> nn.Module:
    return nn.Sequential(nn.Conv1d(2, 3, 3, dilation=2), nn.BatchNorm1d(3), nn.Flatten(), nn.Linear(12, CLASSES))


CASES = {
    "images": (images, lambda count: torch.randn(count, 2, 5, 5, dtype=torch.float64)),
    "series": (series, lambda count: torch.randn(count, 2, 8, dtype=torch.float64)),
    "tokens": (Tokens, lambda count: torch.randint(0, 7, (count, 6)).double()),
}


def subject_and_examples(name: str, kind: str, count: int) -> tuple[Subject, Examples]:
    torch.manual_seed(3)
    build, draw = CASES[name]
    model = build().double()
    for value in model.state_dict().values():
        if value.is_floating_point():
            value.copy_(torch.rand_like(value) + 0.2)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.7)
    fisher = Fisher(CLASSES, kind, samples=3, seed=5)  # type: ignore[arg-type]
    examples = Examples(draw(count), torch.randint(0, CLASSES, (count,)), 40)
    return Subject(model.eval(), coverage(model), cross_entropy, fisher), examples


def weighted_gradients(subject: Subject, examples: Examples) -> list[tuple[float, dict[str, Tensor]]]:
    """Return weight and parameter gradients of every example and term, by one backward pass each."""
    model, found = subject.model, []
    with torch.no_grad():
        outputs = model(examples.inputs)
    terms = fisher_terms(subject.fisher, subject.loss, outputs, examples.labels, first_index=examples.first_index)
    names, parameters = zip(*model.named_parameters(), strict=True)
    for targets, weights in terms:
        for row in range(len(examples.inputs)):
            loss = cross_entropy(model(examples.inputs[row : row + 1]), targets[row : row + 1]).sum()
            found.append((float(weights[row]), dict(zip(names, torch.autograd.grad(loss, parameters), strict=True))))
    return found


def assert_close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=EXACT * float(expected.abs().max()))


@pytest.mark.parametrize("kind", ["exact", "sampled", "empirical"])
@pytest.mark.parametrize("name", CASES)
def test_measured_spectra_are_those_of_autograd(name: str, kind: str) -> None:
    subject, examples = subject_and_examples(name, kind, 6)
    sums = kronecker_sums(subject, examples)
    bases = {
        block: KroneckerBasis(eigenbasis(part.output_moment, 6)[1], eigenbasis(part.input_moment, 6)[1])
        for block, part in sums.layers.items()
    }
    found = spectrum_sums(subject, examples, bases)

    expected = {block: torch.zeros_like(spectrum) for block, spectrum in found.layers.items()}
    for weight, gradients in weighted_gradients(subject, examples):
        for layer in subject.coverage.layers.values():
            shapes = layer.rule.shapes(layer.module)
            # Linear in the blocks, so its transpose gives each block's gradient back from the parameters'.
            zeros = [torch.zeros(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
            placed = layer.rule.parameters(layer.module, zeros)
            dot = sum((placed[key] * gradients[f"{layer.name}.{key}".lstrip(".")]).sum() for key in placed)
            for block, gradient in zip(layer.blocks, torch.autograd.grad(dot, zeros), strict=True):
                expected[block] += weight * (bases[block].output.T @ gradient @ bases[block].input).square()
    for block, spectrum in found.layers.items():
        assert_close(spectrum, expected[block])


@pytest.mark.parametrize("kind", ["exact", "sampled", "empirical"])
def test_the_block_of_a_scale_and_shift_is_the_dense_definition(kind: str) -> None:
    subject, examples = subject_and_examples("images", kind, 8)
    sums = kronecker_sums(subject, examples)

    gradients = weighted_gradients(subject, examples)
    for name in ("1", "4"):
        rows = [(w, torch.cat([g[f"{name}.weight"], g[f"{name}.bias"]])) for w, g in gradients]
        expected = sum(weight * torch.outer(row, row) for weight, row in rows)
        assert isinstance(expected, Tensor)
        assert_close(sums.layers[name].input_moment * sums.layers[name].output_moment / sums.count, expected)


@pytest.mark.parametrize("count", [1, 5])
def test_convolution_averages_patches_and_sums_output_gradients(count: int) -> None:
    subject, examples = subject_and_examples("series", "exact", count)
    found = kronecker_sums(subject, examples).layers["0"]

    convolution, rest = subject.model[0], subject.model[1:]
    a, b = torch.zeros(7, 7, dtype=torch.float64), torch.zeros(3, 3, dtype=torch.float64)
    for row in examples.inputs:
        patches = [row[:, start : start + 5 : 2].reshape(-1) for start in range(4)]
        a += sum(torch.outer(p, p) for p in (torch.cat([patch, torch.ones(1)]) for patch in patches)) / 4
        sent = convolution(row[None]).detach().requires_grad_()
        logits = rest(sent)
        for label in range(CLASSES):
            (delta,) = torch.autograd.grad(-logits.log_softmax(1)[0, label], sent, retain_graph=True)
            b += logits.softmax(1)[0, label].detach() * delta[0] @ delta[0].T
    assert_close(found.input_moment, a)
    assert_close(found.output_moment, b)
