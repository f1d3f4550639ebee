"""Parts of inner products by layer and position: they add up to influence, and are those of copies of the parameters.

The reference gives each position a copy of the parameters of its own, and differentiates by these with torch.func.
"""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.func import grad, vmap
from torch.nn import functional

import relatif
from relatif.pipeline.curvature.capture import ForwardPass, forward_pass
from relatif.pipeline.curvature.coverage import coverage
from relatif.pipeline.curvature.eigen import influence
from relatif.pipeline.curvature.examples import Examples
from relatif.pipeline.curvature.places import Factors
from relatif.pipeline.curvature.sides import OneHot
from relatif.pipeline.curvature.sparse import sparse_gradients
from relatif.pipeline.explaining.fitting import Fitted, fit
from relatif.pipeline.influence.parts import (
    BlockQueries,
    Queries,
    block_parts,
    gradient_queries,
    influence_queries,
    position_parts,
    solved_queries,
)

torch.set_num_threads(1)

CLOSE = 1e-11
"""Relative to the largest: float64 sums of some hundred products, in another order."""

WORDS, WIDTH, CLASSES, STEPS, EXAMPLES = 9, 3, 4, 5, 12


class Reader(nn.Module):
    """Words [N, T] to classes: an embedding, a layer at every position, and a head on their mean."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.layer, self.head = nn.Embedding(WORDS, WIDTH), nn.Linear(WIDTH, 2), nn.Linear(2, CLASSES)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.layer(self.words(ids.long())).tanh().mean(dim=1))


class Recurrent(nn.Module):
    """The same with a recurrence that reads from both ends, whose last state counts."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, WIDTH)
        self.steps = nn.RNN(WIDTH, 2, batch_first=True, bidirectional=True)
        self.head = nn.Linear(4, CLASSES)

    def forward(self, ids: Tensor) -> Tensor:
        sent, _ = self.steps(self.words(ids.long()))
        return self.head(torch.cat([sent[:, -1, :2], sent[:, 0, 2:]], dim=1))


def data(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(WORDS, (EXAMPLES, STEPS), generator=generator)
    return ids, torch.randint(CLASSES, (EXAMPLES,), generator=generator)


def model_of(kind: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(1)
    return kind().double()


def of_reader(copies: dict[str, Tensor], ids: Tensor, label: Tensor) -> Tensor:
    """Loss of one example with a copy of each parameter for each position, [T, ...]; the head's is one."""
    embedded = copies["words.weight"][torch.arange(STEPS), ids]
    hidden = torch.einsum("toi,ti->to", copies["layer.weight"], embedded) + copies["layer.bias"]
    logits = copies["head.weight"][0] @ hidden.tanh().mean(dim=0) + copies["head.bias"][0]
    return functional.cross_entropy(logits, label)


def of_recurrent(copies: dict[str, Tensor], ids: Tensor, label: Tensor) -> Tensor:
    """The same of the recurrence: position t is where it reads word t, in either direction."""
    embedded = copies["words.weight"][torch.arange(STEPS), ids]
    states = []
    for ending, order in (("", range(STEPS)), ("_reverse", range(STEPS - 1, -1, -1))):
        state = torch.zeros(2, dtype=torch.float64)
        for step in order:
            own = [
                copies[f"steps.{name}_l0{ending}"][step] for name in ("weight_ih", "bias_ih", "weight_hh", "bias_hh")
            ]
            state = (own[0] @ embedded[step] + own[1] + own[2] @ state + own[3]).tanh()
        states.append(state)
    return functional.cross_entropy(copies["head.weight"][0] @ torch.cat(states) + copies["head.bias"][0], label)


def position_gradients(model: nn.Module, loss: Callable[..., Tensor], ids: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Gradients of every position's copy, [N, T, ...] by parameter."""
    copies = {name: value.detach().expand(STEPS, *value.shape) for name, value in model.named_parameters()}
    return vmap(grad(loss), in_dims=(None, 0, 0))(copies, ids, labels)


def uses_of(model: nn.Module, ids: Tensor, labels: Tensor) -> dict[str, list[Factors]]:
    """What a forward pass records of training examples."""
    passed: ForwardPass = forward_pass(model, ids, coverage(model))
    gradients = passed.backward(relatif.Categorical(CLASSES).gradient(passed.outputs.detach(), labels))
    found: dict[str, list[Factors]] = {}
    for use, gradient in zip(passed.uses, gradients, strict=True):
        assert gradient is not None
        for block, factors in use.factors(gradient):
            found.setdefault(block, []).append(factors)
    return found


def fitted_queries(model: nn.Module, method: str) -> tuple[Fitted, Queries, Tensor]:
    """A fitted model, its queries, and their influence on the training examples, [M, N]."""
    made = fit(model, relatif.Categorical(CLASSES), *data(), method=method, damping=0.1)
    ids, labels = data(seed=7)
    explainer = made.explainer
    tests = explainer.explain(Examples(ids, labels, 0), explained="true", split="test")
    trains = explainer.explain(Examples(*data(), 0), explained="true", split="train")
    queries = influence_queries(explainer.curvature, tests.gradients, explainer.subject.coverage.blocks)
    return made, queries, influence(explainer.curvature, tests.gradients, trains.gradients)


def solved(model: nn.Module, made: Fitted) -> dict[str, Tensor]:
    """(H + lambda I)^-1 g_t of the queries by parameter, [M, ...], from gradients by autograd."""
    ids, labels = data(seed=7)
    tests = made.explainer.explain(Examples(ids, labels, 0), explained="true", split="test")
    curvature, covered = made.explainer.curvature, made.explainer.subject.coverage
    found = {name: block.unrotate(gradient) for (name, gradient), block in zip(
        tests.gradients.items(), curvature.blocks.values(), strict=True
    )}  # fmt: skip
    plain = covered.parameter_values({name: each.dense() for name, each in found.items()})
    names, parameters = zip(*model.named_parameters(), strict=True)
    for row in range(EXAMPLES):
        loss = functional.cross_entropy(model(ids[row : row + 1]), labels[row : row + 1])
        for name, expected in zip(names, torch.autograd.grad(loss, parameters), strict=True):
            torch.testing.assert_close(plain[name][row], expected, rtol=1e-9, atol=1e-12)
    return covered.parameter_values(curvature.solve(found))


@pytest.mark.parametrize("method", ["kfac", "ekfac"])
@pytest.mark.parametrize(("kind", "loss"), [(Reader, of_reader), (Recurrent, of_recurrent)])
def test_positions_have_the_parts_of_copies_of_the_parameters(
    kind: Callable[[], nn.Module], loss: Callable[..., Tensor], method: str
) -> None:
    model = model_of(kind)
    made, queries, every = fitted_queries(model, method)
    copies, steps = position_gradients(model, loss, *data()), solved(model, made)
    uses = uses_of(model, *data())
    assert any(use.gradients.shape[1] == STEPS for each in uses.values() for use in each)  # type: ignore[union-attr]
    for row in range(EXAMPLES):
        parts = block_parts({name: each.rows(slice(row, row + 1)) for name, each in queries.items()}, uses)
        whole = [part for each in parts.values() for part in each if part.shape[1] == 1]
        by_position = [part for each in parts.values() for part in each if part.shape[1] == STEPS]
        head = sum(torch.einsum("n...,...->n", copies[name].sum(dim=1), steps[name][row]) for name in copies
                   if name.startswith("head"))  # fmt: skip
        others = sum(torch.einsum("nt...,...->nt", copies[name], steps[name][row]) for name in copies
                     if not name.startswith("head"))  # fmt: skip
        scale = float(every.abs().max())
        assert (sum(by_position) - others).abs().max() < CLOSE * scale
        assert (sum(part.sum(dim=1) for part in whole) - head).abs().max() < CLOSE * scale


@pytest.mark.parametrize("method", ["kfac", "ekfac", "exact", "identity"])
@pytest.mark.parametrize("kind", [Reader, Recurrent])
def test_parts_add_up_to_influence(kind: Callable[[], nn.Module], method: str) -> None:
    model = model_of(kind)
    _, queries, every = fitted_queries(model, method)
    uses = uses_of(model, *data())
    for row in range(EXAMPLES):
        parts = block_parts({name: each.rows(slice(row, row + 1)) for name, each in queries.items()}, uses)
        total = sum(part.sum(dim=1) for each in parts.values() for part in each)
        assert (total - every[row]).abs().max() < CLOSE * every.abs().max()


def test_of_plain_gradients_the_parts_add_up_to_their_inner_products() -> None:
    model = model_of(Reader)
    for method in ("ekfac", "exact"):
        made, _, _ = fitted_queries(model, method)
        ids, labels = data(seed=7)
        tests = made.explainer.explain(Examples(ids, labels, 0), explained="true", split="test")
        shapes = made.explainer.subject.coverage.blocks
        queries = gradient_queries(made.explainer.curvature, tests.gradients, shapes)
        copies = position_gradients(model, of_reader, *data())
        train = {
            name: values[:, 0] if name.startswith("head") else values.sum(dim=1) for name, values in copies.items()
        }
        other = position_gradients(model, of_reader, ids, labels)
        test = {name: values[:, 0] if name.startswith("head") else values.sum(dim=1) for name, values in other.items()}
        expected = sum(torch.einsum("m...,n...->mn", test[name], train[name]) for name in train)
        uses = uses_of(model, *data())
        for row in range(EXAMPLES):
            parts = block_parts({name: each.rows(slice(row, row + 1)) for name, each in queries.items()}, uses)
            total = sum(part.sum(dim=1) for each in parts.values() for part in each)
            assert (total - expected[row]).abs().max() < CLOSE * expected.abs().max()  # type: ignore[index, union-attr]


def test_of_matrices_that_were_solved_for_a_part_is_their_product_with_a_positions_gradient() -> None:
    generator = torch.Generator().manual_seed(0)
    solutions = torch.randn(1, 3, 4, generator=generator, dtype=torch.float64)
    outputs, inputs = (torch.randn(2, 5, width, generator=generator, dtype=torch.float64) for width in (3, 4))
    found = position_parts(solved_queries({"layer": solutions})["layer"], Factors(outputs, inputs))
    expected = [[float(outputs[n, t] @ solutions[0] @ inputs[n, t]) for t in range(5)] for n in range(2)]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=1e-12)


def test_of_a_large_embedding_the_words_of_both_sides_alone_meet() -> None:
    generator = torch.Generator().manual_seed(0)
    ones = torch.ones(1, 4, dtype=torch.float64)
    of_query = sparse_gradients(
        torch.randn(1, 4, 3, generator=generator, dtype=torch.float64), OneHot(torch.tensor([[5, 2, 5, 8]]), 9, ones)
    )
    weights = torch.rand(3, 9, generator=generator, dtype=torch.float64)
    outputs = torch.randn(2, 4, 3, generator=generator, dtype=torch.float64)
    ids = torch.tensor([[2, 2, 7, 0], [8, 5, 1, 5]])
    found = position_parts(BlockQueries(of_query, weights), Factors(outputs, OneHot(ids, 9, ones.expand(2, -1))))
    matrix = of_query.dense()[0] * weights
    expected = [[float(outputs[n, t] @ matrix[:, ids[n, t]]) for t in range(4)] for n in range(2)]
    assert expected[0][3] == 0
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=1e-12)
