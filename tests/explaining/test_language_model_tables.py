"""A causal language model's folder and a Parquet of its tokens, by settings alone, against lists as they are."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from relatif.pipeline.curvature.examples import Examples
from relatif.pipeline.curvature.likelihood_tokens import TokenCategorical
from relatif.pipeline.runs.opening import open_run
from relatif.pipeline.runs.run import Run
from relatif.pipeline.tasks.task import load_model
from relatif.schemas.config import RunConfig
from relatif.schemas.errors import DataError
from tests.support.example_scores import Reference, assert_agree, pipeline_scores

transformers = pytest.importorskip("transformers")

WORDS, POSITIONS, DAMPING = 7, 6, 0.01
TRAIN = [[1, 2, 3, 4], [5, 6], [2, 2, 1, 3, 5], [4, 1, 6]]
TESTS = [[3, 1, 2], [6, 5, 4, 3, 2]]
NONE = -100


@pytest.fixture
def model(tmp_path: Path) -> nn.Module:
    torch.manual_seed(0)
    sizes = {"vocab_size": WORDS, "n_positions": POSITIONS, "n_embd": 4, "n_layer": 1, "n_head": 2}
    made = transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes, bos_token_id=None, eos_token_id=None))
    made.save_pretrained(tmp_path / "model")
    return made.double().eval()


def run_of(tmp_path: Path, columns: dict[str, dict[str, Any]], **data: object) -> Run:
    (tmp_path / "tokens").mkdir(exist_ok=True)
    for part, lists in columns.items():
        pq.write_table(pa.table(lists), tmp_path / f"tokens/{part}.parquet")
    settings = {
        "task": "hugging_face",
        "model": {"checkpoint": str(tmp_path / "model")},
        "data": {"source": str(tmp_path / "tokens"), **data},
    }
    return open_run(RunConfig.model_validate(settings), str(tmp_path / "run"))


def examples_of(run: Run) -> tuple[Examples, Examples]:
    (train,), (test,) = run.train_shards, run.test_shards
    return run.source.examples(run.task, train), run.source.examples(run.task, test)


def entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(outputs[0, :-1], targets[0, 1:], reduction="sum", ignore_index=NONE)


def every_word(outputs: Tensor) -> Iterable[tuple[Tensor, float]]:
    """Yield one word at one place, with its probability there."""
    for place, shares in enumerate(outputs.detach()[0, :-1].softmax(dim=1).tolist()):
        for word, share in enumerate(shares):
            alone = torch.full((1, outputs.shape[1]), NONE)
            alone[0, place + 1] = word
            yield alone, share


def expected_scores(model: nn.Module, labels: list[list[int]]) -> Tensor:
    """Return influence [M, N] from lists of their own lengths, one by one, and an explicit inverse."""
    reference = Reference(model, entropy, every_word)
    curvature = DAMPING * torch.eye(reference.size, dtype=torch.float64)
    for tokens, targets in zip(TRAIN, labels, strict=True):
        for target, weight in every_word(reference.outputs(torch.tensor([tokens]))):
            alone = torch.where(torch.tensor([targets]) == NONE, NONE, target)
            gradient = reference.gradient(torch.tensor([tokens]), alone)
            curvature += weight * torch.outer(gradient, gradient) / len(TRAIN)
    training = [
        reference.gradient(torch.tensor([tokens]), torch.tensor([targets]))
        for tokens, targets in zip(TRAIN, labels, strict=True)
    ]
    queries = []
    for tokens in TESTS:
        likeliest = reference.outputs(torch.tensor([tokens]))[:, :-1].argmax(dim=2)
        queries.append(reference.gradient(torch.tensor([tokens]), functional.pad(likeliest, (1, 0), value=NONE)))
    return torch.stack(queries) @ torch.linalg.inv(curvature) @ torch.stack(training).T


def test_scores_of_its_own_tokens_are_those_of_the_explicit_inverse(tmp_path: Path, model: nn.Module) -> None:
    run = run_of(tmp_path, {"train": {"input_ids": TRAIN}, "test": {"input_ids": TESTS}})
    assert run.task.likelihood == TokenCategorical(WORDS, shift=1)
    assert run.imported is not None
    imported = load_model(run.task, run.imported.state)
    train, test = examples_of(run)
    assert train.targets.shape == (4, 5)

    # The loss is the one that the library's own training has, whose mean is over the tokens that are predicted.
    for row, tokens in enumerate(TRAIN):
        ids = torch.tensor([tokens])
        theirs = model(input_ids=ids, labels=ids).loss.detach() * (len(tokens) - 1)
        mine = run.task.likelihood.losses(imported(**train.rows(row, row + 1).inputs).logits, train.targets[row, None])
        torch.testing.assert_close(mine[0], theirs.double(), rtol=1e-5, atol=1e-6)  # it computes in float32

    found = pipeline_scores(imported, run.task.likelihood, train, test, DAMPING)
    assert_agree(found, expected_scores(model, TRAIN))


def test_scores_of_labels_of_some_tokens_are_those_of_the_explicit_inverse(tmp_path: Path, model: nn.Module) -> None:
    """As instructions are learned: the question's tokens are no targets."""
    labels = [[NONE, NONE, *tokens[2:]] if len(tokens) > 2 else tokens for tokens in TRAIN]
    parts = {"train": {"input_ids": TRAIN, "labels": labels}, "test": {"input_ids": TESTS, "labels": TESTS}}
    run = run_of(tmp_path, parts, max_length=6)
    train, test = examples_of(run)
    assert train.targets.shape == (4, 6)
    found = pipeline_scores(model, run.task.likelihood, train, test, DAMPING)
    assert_agree(found, expected_scores(model, labels))


def test_a_column_of_classes_is_told_with_what_to_name(tmp_path: Path, model: nn.Module) -> None:
    parts = {"train": {"input_ids": TRAIN, "label": [0, 1, 0, 1]}, "test": {"input_ids": TESTS, "label": [0, 1]}}
    with pytest.raises(DataError, match=r"expected data without classes \(a column of lists, .* found table with 2 cl"):
        assert run_of(tmp_path, parts).task
    assert run_of(tmp_path, parts, label_column="input_ids").task.likelihood == TokenCategorical(WORDS, shift=1)
