"""A small run of the LSTM explained by its texts, against scores from the definitions on the model that was trained."""

from pathlib import Path

import duckdb
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from relatif.pipeline.report.paper import NamedExample
from relatif.pipeline.report.table3 import explain
from relatif.pipeline.runs.run import Run
from relatif.pipeline.tasks.names import names_lstm
from relatif.pipeline.tasks.task import load_model
from relatif.schemas import run_directory
from relatif.schemas.errors import DataError, MissingStageError
from tests.support.names import ENDINGS, EXPLAINED, names_config, write_surnames
from tests.support.runs import run_named

pytestmark = pytest.mark.usefixtures("local_ray")

METHODS = ("influence", "theta_relatif", "l_relatif")
CLASSES, DAMPING = 18, 1e-3
LANGUAGES = list(ENDINGS)
ALPHABET = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ .,;'"
PROBABILITY = 1e-6
"""Relative: probabilities are stored as float32."""

Array = NDArray[np.float64]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_surnames(tmp_path_factory.mktemp("data") / "names")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, data: Path, local_ray: None) -> Run:
    return run_named(names_config(data), tmp_path_factory.mktemp("runs") / "run")


def rows(run: Run, split: str) -> list[tuple[str, int]]:
    """Texts and labels of a split in row order, read by another library."""
    folder = run.store.describe(f"{run_directory.DATA}/{split}")
    query = f"select text, label from read_parquet('{folder}/*.parquet', file_row_number = true)"
    return duckdb.sql(query).fetchall()


def last_layer(run: Run, texts: list[str]) -> tuple[Array, Array]:
    """Probabilities [N, C] and what the last layer sees, with a 1 for its bias, [N, I], of names given one by one."""
    model = load_model(names_lstm(), load_file(run.store.describe(run_directory.CHECKPOINT)))
    seen: list[torch.Tensor] = []
    model.linear.register_forward_pre_hook(lambda _module, args: seen.append(args[0].detach()))
    probabilities = []
    for text in texts:
        letters = torch.zeros(1, len(text), len(ALPHABET), dtype=torch.float64)
        for place, letter in enumerate(text):
            letters[0, place, ALPHABET.index(letter)] = 1
        probabilities.append(model(letters).softmax(dim=1).detach())
    inputs = torch.cat(seen).numpy()
    return torch.cat(probabilities).numpy(), np.hstack([inputs, np.ones((len(texts), 1))])


def gradients(probabilities: Array, labels: Array, inputs: Array) -> Array:
    """Gradients of -log p(label) by the last layer's weight and bias, [N, C * I]."""
    deltas = probabilities - np.eye(CLASSES)[labels]
    return (deltas[:, :, None] * inputs[:, None, :]).reshape(len(labels), -1)


def test_the_paper_s_name_is_explained_by_the_last_layer_alone(run: Run) -> None:
    train, test = rows(run, "train"), rows(run, "test")
    place = [text for text, _ in test].index(EXPLAINED)
    assert EXPLAINED not in [text for text, _ in train]

    found = explain(run, place, methods=METHODS, k=6)

    probabilities, inputs = last_layer(run, [text for text, _ in train])
    of_test, input_of_test = last_layer(run, [EXPLAINED])
    predicted = int(of_test.argmax())
    assert found.test == NamedExample(EXPLAINED, "Russian", LANGUAGES[predicted])
    assert found.explained_label == LANGUAGES[predicted]
    assert found.probability == pytest.approx(of_test.max(), rel=PROBABILITY)
    expected = by_definition(probabilities, inputs, np.array([label for _, label in train]), (of_test, input_of_test))
    for method in METHODS:
        values = expected[method]
        names = [
            NamedExample(train[row][0], LANGUAGES[train[row][1]], LANGUAGES[probabilities[row].argmax()])
            for row in np.argsort(-values, kind="stable")[:6]
        ]
        assert found.examples[method] == names, method


def by_definition(probabilities: Array, inputs: Array, labels: Array, of_test: tuple[Array, Array]) -> dict[str, Array]:
    """Scores [N] of one test input by dense linear algebra: H is the Kronecker product of the two moments."""
    spread = np.einsum("nc,cd->ncd", probabilities, np.eye(CLASSES))
    outputs = (spread - probabilities[:, :, None] * probabilities[:, None, :]).mean(axis=0)
    curvature = np.kron(outputs, inputs.T @ inputs / len(inputs))
    of_train = gradients(probabilities, labels, inputs)
    test = gradients(of_test[0], of_test[0].argmax(axis=1), of_test[1])[0]
    solved = np.linalg.solve(curvature + DAMPING * np.eye(len(curvature)), of_train.T)
    influence = test @ solved
    return {
        "influence": influence,
        "theta_relatif": influence / np.linalg.norm(solved, axis=0),
        "l_relatif": influence / np.sqrt((of_train * solved.T).sum(axis=1)),
    }


def test_no_more_examples_than_the_table_keeps_and_only_the_methods_asked_for(run: Run) -> None:
    found = explain(run, 0, methods=("nearest_neighbour",), k=100)
    assert {method: len(examples) for method, examples in found.examples.items()} == {"nearest_neighbour": 8}


def test_a_test_input_that_was_not_scored_is_named(run: Run) -> None:
    with pytest.raises(DataError, match=rf"expected test_index {run.test_rows} in the tables of"):
        explain(run, run.test_rows, methods=METHODS, k=6)


def test_unfinished_scores_are_refused(data: Path, tmp_path: Path) -> None:
    run = run_named(names_config(data, "train.epochs=1"), tmp_path / "run", "train", "factors")
    with pytest.raises(MissingStageError, match=r"tables/top_k, found none; run the stage"):
        explain(run, 0, methods=METHODS, k=6)
