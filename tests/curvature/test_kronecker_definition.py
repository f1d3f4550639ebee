"""Factors of attention, recurrence and shared weights against their definition, from models that are written out.

Axes: N examples, T positions, O outputs, I inputs of a block. The definition of a block is that of K-FAC's expand form:
``A = sum_n mean_t a a'`` over the positions of all uses and ``B = sum_n E_y sum_t d d'``.
"""

from dataclasses import dataclass
from functools import cache

import pytest
import torch
from torch import Tensor

from relatif.pipeline.calls import run_model
from relatif.pipeline.curvature.coverage import coverage
from relatif.pipeline.curvature.eigen import KroneckerBasis
from relatif.pipeline.curvature.examples import Examples
from relatif.pipeline.curvature.fisher import Fisher, fisher_terms
from relatif.pipeline.curvature.kronecker import KroneckerSums, eigenbasis, kronecker_sums, spectrum_sums
from relatif.pipeline.curvature.likelihood import Categorical
from relatif.pipeline.curvature.likelihood_tokens import TokenCategorical
from relatif.pipeline.curvature.model import CoveredModel
from tests.support.rows import ready
from tests.support.written_models import CLASSES, MODELS, WORDS
from tests.support.written_out import Definition, Paper, exact_blocks

pytest.importorskip("transformers")
pytest.importorskip("peft")

torch.set_num_threads(1)

EXACT = 1e-10
"""Relative to the largest entry: float64."""

ROWS, IGNORED = 3, -100


@dataclass(frozen=True)
class Case:
    subject: CoveredModel
    examples: Examples
    sums: KroneckerSums
    definition: Definition


def loss(outputs: Tensor, target: Tensor) -> Tensor:
    """Return the negative log-likelihood of one example, of a class [] or of the words [T] that are there."""
    log_probabilities = outputs - outputs.exp().sum(dim=-1, keepdim=True).log()
    if target.ndim == 0:
        return -log_probabilities[target]
    places = torch.nonzero(target != IGNORED).flatten()
    return -log_probabilities[places, target[places]].sum()


def every_target(outputs: Tensor, target: Tensor) -> list[tuple[Tensor, float]]:
    """Return every class, or one word at one place that is there, with its probability."""
    shares = outputs.detach().softmax(dim=-1)
    if target.ndim == 0:
        return [(torch.tensor(label), float(share)) for label, share in enumerate(shares)]
    alone = torch.full_like(target, IGNORED)
    places = torch.nonzero(target != IGNORED).flatten().tolist()
    pairs = [(place, word) for place in places for word in range(WORDS)]
    return [(alone.index_fill(0, torch.tensor(t), word), float(shares[t, word])) for t, word in pairs]


def padded(steps: int) -> Tensor:
    ids = torch.randint(1, WORDS, (ROWS, steps), generator=torch.Generator().manual_seed(steps))
    ids[1, 2:] = 0
    return ids


@cache
def defined(name: str, kind: str, steps: int) -> Case:
    """Return a model with its sums, and what its definition gives."""
    torch.manual_seed(0)
    written = MODELS[name]
    model, ids = ready(written.build()), padded(steps)
    targets = torch.where(ids > 0, ids, IGNORED) if written.tokens else torch.arange(ROWS) % CLASSES
    likelihood = TokenCategorical(WORDS, IGNORED, shift=0) if written.tokens else Categorical(CLASSES)
    subject = CoveredModel(model, coverage(model), likelihood, Fisher(kind, samples=2, seed=5))  # type: ignore[arg-type]
    examples = Examples(ids, targets, 40)
    outputs = run_model(model, ids).detach()
    drawn = [] if kind == "exact" else list(fisher_terms(subject.fisher, likelihood, outputs, targets, first_index=40))
    definition = Definition()
    for row in range(ROWS):
        paper = Paper()
        own = written.write(model, paper, ids[row])
        torch.testing.assert_close(own.detach(), outputs[row], rtol=1e-12, atol=1e-12)
        definition.see(paper)
        products = {block for block, _ in paper.seen}
        exact = exact_blocks(model, set(subject.coverage.blocks) - products)
        terms = [(labels[row], float(weights[row])) for labels, weights in drawn] or every_target(own, targets[row])
        for target, weight in terms:
            definition.add(paper, loss(own, target), weight, exact)
    return Case(subject, examples, kronecker_sums(subject, examples), definition)


def close(found: Tensor, expected: Tensor, what: object) -> None:
    found = found.diag() if found.ndim < expected.ndim else found
    apart, largest = float((found - expected).abs().max()), float(expected.abs().max())
    assert apart <= EXACT * largest, (what, apart, largest)


FORMS = [(name, kind, steps) for name in MODELS for kind, steps in (("exact", 3), ("sampled", 5), ("empirical", 5))]


@pytest.mark.parametrize(("name", "kind", "steps"), FORMS)
def test_factors_are_those_of_the_definition(name: str, kind: str, steps: int) -> None:
    case = defined(name, kind, steps)
    seen, sent = case.definition.inputs, case.definition.outputs

    assert {block for block, _ in seen} <= set(case.subject.coverage.blocks)
    for block, found in case.sums.layers.items():
        if (block, False) in seen:
            close(found.input_moment, seen[block, False], block)
            close(found.output_moment, sent[block, False], block)
        else:
            second = sum(weight * torch.outer(g, g) for weight, g in case.definition.gradients[block])
            close(torch.kron(found.output_moment, found.input_moment) / ROWS, second, block)
        assert (found.transposed is not None) == ((block, True) in seen)
        if found.transposed is not None:
            # The head that is tied to an embedding has its gradients at the words' side.
            close(found.transposed.input_moment, sent[block, True], block)
            close(found.transposed.output_moment, seen[block, True], block)


@pytest.mark.parametrize(("name", "kind", "steps"), FORMS)
def test_measured_spectra_are_those_of_the_definition(name: str, kind: str, steps: int) -> None:
    case = defined(name, kind, steps)
    bases = {
        block: KroneckerBasis(*(eigenbasis(side, ROWS)[1] for side in (sums.output_moment, sums.input_moment)))
        for block, sums in ((block, sums.single()) for block, sums in case.sums.layers.items())
    }

    found = spectrum_sums(case.subject, case.examples, bases).layers

    for block, spectrum in found.items():
        expected = torch.zeros_like(spectrum)
        for weight, gradient in case.definition.gradients[block]:
            rotated = gradient.reshape(spectrum.shape)
            rotated = rotated if bases[block].output is None else bases[block].output.T @ rotated
            rotated = rotated if bases[block].input is None else rotated @ bases[block].input
            expected += weight * rotated.square()
        close(spectrum, expected, block)
