"""The label queue of a run with flipped labels: neighbours, probabilities and helpers by dense float64 formulas."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file

from relatif.pipeline.curvature.likelihood_gaussian import Gaussian
from relatif.pipeline.devices import Worker
from relatif.pipeline.evaluations.label_queue import HELPERS, LabelQueue, label_queue, without_queue
from relatif.pipeline.evaluations.suspects import NEIGHBOURS, Suspects, find_suspects
from relatif.pipeline.explaining.engine import Engine, load_engine
from relatif.pipeline.explaining.finished_run import open_finished_run
from relatif.schemas import run_directory
from tests.reference.fisher import damped_inverse, fisher
from tests.reference.scores import influence
from tests.reference.softmax import class_gradients, fold, probabilities
from tests.support.explained_runs import TRAINING, finished
from tests.support.images import CLASSES, pixels
from tests.support.runs import tables

COUNT, SHOWN, DAMPING = 60, 12, 0.05
FLIPS = ("data.flip_share=0.1", "curvature.method=exact", f"curvature.damping={DAMPING}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("flipped")


@pytest.fixture(scope="module")
def engine(folder: Path) -> Engine:
    """An engine for a run by the exact curvature on labels of which a tenth was flipped."""
    return load_engine(open_finished_run(finished(folder, "logistic", *FLIPS)), Worker(2))


@pytest.fixture(scope="module")
def suspects(engine: Engine) -> Suspects:
    return find_suspects(engine.run.source, engine.run.train_shards, COUNT, Worker(2))


@pytest.fixture(scope="module")
def queue(engine: Engine) -> LabelQueue:
    return label_queue(engine, suspects=COUNT, shown=SHOWN)


@pytest.fixture(scope="module")
def columns(folder: Path, suspects: Suspects) -> dict[str, NDArray[np.float64]]:
    """The columns label and loss of all training examples."""
    table = tables(folder / "run")["train_examples"]
    return {name: table[name].to_numpy() for name in ("label", "loss", "self_influence")}


@pytest.fixture(scope="module")
def inputs(folder: Path) -> NDArray[np.float64]:
    return pixels(folder / "data", "train")[0]


@pytest.fixture(scope="module")
def block(folder: Path, suspects: Suspects) -> NDArray[np.float64]:
    """The trained weights with the bias as a last column."""
    state = load_file(folder / "run" / run_directory.CHECKPOINT)
    return fold(state["linear.weight"].astype(float), state["linear.bias"].astype(float))


def test_suspects_are_those_of_the_highest_loss_and_the_rest_follows_by_loss(
    suspects: Suspects, columns: dict[str, NDArray[np.float64]]
) -> None:
    by_loss = np.argsort(-columns["loss"], kind="stable")
    assert sorted(suspects.rows.tolist()) == sorted(by_loss[:COUNT].tolist())
    assert suspects.order.tolist() == [*suspects.rows.tolist(), *by_loss[COUNT:].tolist()]
    assert suspects.labels.tolist() == columns["label"][suspects.rows].tolist()


def nearest_by_brute_force(inputs: NDArray[np.float64], row: int, count: int) -> list[int]:
    apart = np.sqrt(((inputs.astype(np.float32).astype(float) - inputs[row].astype(np.float32)) ** 2).sum(axis=1))
    order = np.lexsort((np.arange(len(inputs)), apart.astype(np.float32)))
    return [int(each) for each in order if each != row][:count]


def test_neighbours_are_those_of_brute_force_without_the_example_itself(
    suspects: Suspects, inputs: NDArray[np.float64]
) -> None:
    assert suspects.neighbours.shape == (COUNT, NEIGHBOURS)
    for row, found in zip(suspects.rows.tolist(), suspects.neighbours.tolist(), strict=True):
        assert found == nearest_by_brute_force(inputs, row, NEIGHBOURS)


def test_suspicion_and_suggestions_are_those_of_their_definition(
    suspects: Suspects, columns: dict[str, NDArray[np.float64]], inputs: NDArray[np.float64], block: NDArray[np.float64]
) -> None:
    labels = columns["label"]
    # All 200 are references, as there are fewer than 500.
    share = np.mean([labels[nearest_by_brute_force(inputs, row, NEIGHBOURS)] == labels[row] for row in range(TRAINING)])
    chance = float(((np.bincount(labels, minlength=CLASSES) / TRAINING) ** 2).sum())
    beyond = (share - chance) / (1 - chance)
    assert suspects.agreement == pytest.approx(share)
    assert suspects.weight == pytest.approx(beyond / (1 - beyond))
    assert suspects.weight > 1, "made-up classes lie near together"
    expected = probabilities(block, inputs)[suspects.rows]
    np.testing.assert_allclose(suspects.probabilities.numpy(), expected, rtol=1e-9, atol=1e-15)
    place = {row: number + 1 for number, row in enumerate(np.argsort(columns["loss"], kind="stable")[-COUNT:])}
    values = []
    for number, row in enumerate(suspects.rows.tolist()):
        near = labels[suspects.neighbours[number].numpy()]
        counts = np.bincount(near, minlength=CLASSES) / NEIGHBOURS
        assert int(suspects.suggested[number]) == int(np.argmax(expected[number] + suspects.weight * counts))
        part = (near != labels[row]).mean()
        values.append((place[row] / COUNT + suspects.weight * part) / (1 + suspects.weight))
    assert suspects.suspicion.tolist() == pytest.approx(values)
    assert values == sorted(values, reverse=True)


def test_flips_come_first_with_their_right_labels(suspects: Suspects, engine: Engine, folder: Path) -> None:
    flipped = engine.run.dataset.labelling.flipped(torch.arange(TRAINING))
    right = torch.from_numpy(pixels(folder / "data", "train")[1])
    first = suspects.order[: int(flipped.sum())]
    assert float(flipped[first].double().mean()) > 0.7
    found = flipped[suspects.rows]
    assert float((suspects.suggested == right[suspects.rows])[found].double().mean()) > 0.9


def test_helpers_are_those_of_l_relatif_without_the_example_itself(
    queue: LabelQueue, columns: dict[str, NDArray[np.float64]], inputs: NDArray[np.float64], block: NDArray[np.float64]
) -> None:
    gradients = class_gradients(block, inputs)
    inverse = damped_inverse(fisher(gradients, probabilities(block, inputs)), DAMPING)
    train = gradients[np.arange(TRAINING), columns["label"]]
    own = np.sqrt(np.einsum("np,pq,nq->n", train, inverse, train))

    def helping(row: int, label: int) -> list[int]:
        scores = influence(inverse, gradients[[row], label], train)[0] / own
        scores[row] = -np.inf
        return [int(each) for each in np.argsort(-scores, kind="stable")[:HELPERS] if scores[each] > 0]

    assert any(row.suggested is not None for row in queue.rows)
    for row in queue.rows:
        assert list(row.helpers_label) == helping(row.train, row.label)
        expected = [] if row.suggested is None else helping(row.train, row.suggested)
        assert list(row.helpers_suggested) == expected
        assert row.train not in (*row.helpers_label, *row.helpers_suggested, *row.nearest)


def test_rows_tell_what_speaks_against_their_labels(
    queue: LabelQueue, suspects: Suspects, columns: dict[str, NDArray[np.float64]]
) -> None:
    assert queue.total == TRAINING
    assert [row.train for row in queue.rows] == suspects.rows[:SHOWN].tolist()
    assert f"among the {COUNT} that the model believes least" in queue.how
    assert f"in {100 * suspects.agreement:.0f}% of all cases" in queue.how
    for place, row in enumerate(queue.as_json()["rows"]):
        assert row["suspicion"] == pytest.approx(100 * float(suspects.suspicion[place]), abs=0.05)
        told = {each["what"]: each for each in row["evidence"]}
        assert list(told) == ["Model", "Nearest", "Helpers", "Self-influence"]
        probability = float(np.exp(-columns["loss"][row["train"]]))
        assert told["Model"]["share"] == pytest.approx(1 - probability, abs=1e-6)
        same = int((suspects.neighbour_labels[place] == row["label"]).sum())
        assert told["Nearest"]["share"] == pytest.approx(1 - same / NEIGHBOURS)
        assert told["Nearest"]["text"].startswith(f"{same} of {NEIGHBOURS} are class {row['label']}")
        doubted = int((columns["loss"][list(row["helpers_label"])] > np.log(2)).sum())
        assert told["Helpers"]["text"].startswith(f"the model doubts {doubted} of the {len(row['helpers_label'])} that")
        above = int((columns["self_influence"] > columns["self_influence"][row["train"]]).sum())
        assert told["Self-influence"]["text"] == f"place {above + 1} of {TRAINING}"


def test_what_has_no_labels_to_look_at_says_why(engine: Engine) -> None:
    run = engine.run
    assert without_queue(run) is None
    data = run.config.data.model_copy(update={"scored": "test"})
    other = replace(run, config=run.config.model_copy(update={"data": data}))
    assert "found data.scored = 'test'" in str(without_queue(other))
    numbers: Any = SimpleNamespace(config=run.config, task=SimpleNamespace(likelihood=Gaussian(1, 1.0)))
    assert "expected a task that predicts classes" in str(without_queue(numbers))
