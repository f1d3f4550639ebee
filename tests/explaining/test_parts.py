"""Influence by layer and by token of the training example: against explicit inverses and gradients by torch.func."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional

import relatif
from relatif.pipeline.curvature.examples import Examples
from relatif.pipeline.datasets.description import InputDescription, Subject
from relatif.pipeline.datasets.provenance import Provenance
from relatif.pipeline.explaining.examples import ExplainedExamples
from relatif.pipeline.explaining.fitting import Fitted, fit
from relatif.pipeline.explaining.parts import (
    parts_of_gradients,
    parts_of_influence,
    parts_of_solution,
    token_count,
)
from tests.influence.test_parts import CLASSES, CLOSE, EXAMPLES, STEPS, Reader, Recurrent, data

torch.set_num_threads(1)

DAMPING = 0.05


class Convolutions(nn.Module):
    """Pictures [N, 5] to classes: a convolution, a norm, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm, self.head = nn.Conv1d(1, 2, 3), nn.BatchNorm1d(2), nn.Linear(6, CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(self.norm(self.convolution(inputs[:, None].to(self.head.weight))).tanh().flatten(1))


MODELS: dict[str, Callable[[], nn.Module]] = {"words": Reader, "steps": Recurrent, "pictures": Convolutions}


def case(name: str, method: str) -> tuple[Fitted, ExplainedExamples, Examples]:
    """A fitted model, one query, and its training examples."""
    torch.manual_seed(1)
    made = fit(MODELS[name]().double(), relatif.Categorical(CLASSES), *data(), method=method, damping=DAMPING)
    ids, labels = data(seed=7)
    query = made.explainer.explain(Examples(ids[:1], labels[:1], 0), explained="true", split="test")
    return made, query, Examples(*data(), 0)


def gradients(made: Fitted, ids: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Gradients of each example by parameter, [N, ...], by torch.func where its functions allow it."""
    model = made.explainer.subject.model
    parameters = {name: value.detach() for name, value in model.named_parameters()}

    def loss(values: dict[str, Tensor], row: Tensor, label: Tensor) -> Tensor:
        return functional.cross_entropy(functional_call(model, values, (row[None],))[0], label)

    if any(isinstance(module, nn.RNNBase) for module in model.modules()):
        each = [grad(loss)(parameters, row, label) for row, label in zip(ids, labels, strict=True)]
        return {name: torch.stack([found[name] for found in each]) for name in parameters}
    return vmap(grad(loss), in_dims=(None, 0, 0))(parameters, ids, labels)


def flat(values: dict[str, Tensor]) -> Tensor:
    return torch.cat([each.flatten(1) for each in values.values()], dim=1)


@pytest.mark.parametrize("name", MODELS)
def test_layers_have_the_parts_of_a_dense_inverse(name: str) -> None:
    made, query, training = case(name, "exact")
    of_query = gradients(made, *(each[:1] for each in data(seed=7)))
    train = gradients(made, *data())
    logits = made.explainer.subject.model(data()[0]).detach()
    hessian = torch.zeros(2 * [flat(train).shape[1]], dtype=torch.float64)
    for label in range(CLASSES):
        every = flat(gradients(made, data()[0], torch.full((EXAMPLES,), label)))
        hessian += (every * logits.softmax(dim=1)[:, label, None]).T @ every / EXAMPLES
    inverse = torch.linalg.inv(hessian + DAMPING * torch.eye(len(hessian), dtype=torch.float64))
    solved = dict(zip(of_query, (inverse @ flat(of_query)[0]).split([each[0].numel() for each in of_query.values()]),
                      strict=True))  # fmt: skip
    found = parts_of_influence(made.explainer, query, training, None)
    assert found.tokens is None
    assert set(found.layers) == {parameter.partition(".")[0] for parameter in train}
    scale = float(found.total.abs().max())
    for layer, values in found.layers.items():
        mine = [parameter for parameter in train if parameter.startswith(f"{layer}.")]
        expected = sum(train[parameter].flatten(1) @ solved[parameter] for parameter in mine)
        assert float((values - expected).abs().max()) < 1e-9 * scale, layer
    torch.testing.assert_close(found.rest, found.total, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("method", ["kfac", "ekfac", "exact", "identity"])
@pytest.mark.parametrize("name", MODELS)
def test_layers_and_tokens_add_up_to_influence(name: str, method: str) -> None:
    made, query, training = case(name, method)
    found = parts_of_influence(made.explainer, query, training, STEPS)
    influence = made.explain(*(each[:1] for each in data(seed=7)), explained="true").influence[0]
    scale = float(influence.abs().max())
    assert float((found.total - influence).abs().max()) < CLOSE * scale
    if name == "pictures":
        assert found.tokens is None, "three windows are not five tokens"
        assert found.whole == ("convolution", "norm", "head")
        return
    assert found.tokens is not None
    assert found.tokens.shape == (EXAMPLES, STEPS)
    assert float((found.tokens.sum(dim=1) + found.rest - influence).abs().max()) < CLOSE * scale
    assert found.whole == ("head",)
    torch.testing.assert_close(found.rest, found.layers["head"], rtol=1e-12, atol=0)


def test_parts_of_a_score_are_those_of_influence_over_its_denominator() -> None:
    made, query, training = case("words", "ekfac")
    found = parts_of_influence(made.explainer, query, training, STEPS)
    explanation = made.explain(*(each[:1] for each in data(seed=7)), explained="true")
    scaled = found.scaled(1 / explanation.train["theta_norm"])
    scores = explanation.scores("theta_relatif")[0]
    assert scaled.tokens is not None
    for total in (scaled.total, scaled.tokens.sum(dim=1) + scaled.rest):
        assert float((total - scores).abs().max()) < CLOSE * float(scores.abs().max())
    some = scaled.rows([4, 1])
    assert some.tokens is not None
    torch.testing.assert_close(some.tokens.sum(dim=1) + some.rest, scores[[4, 1]])


@pytest.mark.parametrize("method", ["ekfac", "exact"])
def test_parts_of_plain_gradients_are_those_of_their_inner_products(method: str) -> None:
    made, query, training = case("words", method)
    found = parts_of_gradients(made.explainer, query, training, STEPS)
    of_query, train = gradients(made, *(each[:1] for each in data(seed=7))), gradients(made, *data())
    for layer, values in found.layers.items():
        expected = sum(train[each].flatten(1) @ of_query[each].flatten() for each in train if each.startswith(layer))
        torch.testing.assert_close(values, expected, rtol=1e-9, atol=1e-12)


def test_parts_of_a_solution_are_those_of_influence() -> None:
    made, query, training = case("words", "ekfac")
    explainer = made.explainer
    blocks = {name: block.unrotate(query.gradients[name]) for name, block in explainer.curvature.blocks.items()}
    solved = torch.cat([each.flatten(1) for each in explainer.curvature.solve(blocks).values()], dim=1)
    found = parts_of_solution(explainer, solved, training, STEPS)
    expected = parts_of_influence(explainer, query, training, STEPS)
    assert found.tokens is not None
    assert expected.tokens is not None
    torch.testing.assert_close(found.tokens, expected.tokens, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(found.rest, expected.rest, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("described", "tokens"),
    [
        ({"dtype": "uint8", "shape": (7,), "vocabulary": "abc"}, 7),
        ({"dtype": "int64", "shape": (5,), "name": "input_ids"}, 5),
        ({"dtype": "int64", "shape": (5,), "text_column": "text"}, 5),
        ({"dtype": "int64", "shape": (5,)}, None),
        ({"dtype": "uint8", "shape": (28, 28)}, None),
        ({"dtype": "float32", "shape": (5,), "text_column": "text"}, None),
    ],
)
def test_which_inputs_are_tokens(described: dict[str, object], tokens: int | None) -> None:
    subject = Subject(
        name="own",
        meaning="made up",
        input=InputDescription.model_validate({"column": "input", **described}),
        class_names=("a", "b"),
        provenance=Provenance(origin="made up", licence="none", licence_url="", sources=()),
    )
    assert token_count(subject) == tokens
