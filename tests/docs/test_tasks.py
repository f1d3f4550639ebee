"""docs/tasks.md: its examples run as a user would run them, and what it says of files and messages is so."""

import importlib.util
import json
import re
import shutil
from collections.abc import Iterator
from contextlib import chdir
from dataclasses import fields
from pathlib import Path
from types import ModuleType

import numpy as np
import polars
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.func import functional_call, grad

from relatif.pipeline.curvature.coverage import coverage
from relatif.pipeline.datasets.shards import open_dataset
from relatif.pipeline.storage.store import open_store
from relatif.pipeline.tasks.task import Task
from relatif.schemas import run_directory
from tests.support.own_tasks import EXAMPLES, LANGUAGES, NAMES, SMALL_RAY, TESTS, TRAINING, in_folder, user_folder
from tests.support.processes import job, sandbox
from tests.support.runs import ALWAYS_WRITTEN, ROOT, dense, tables

GUIDE = (ROOT / "docs/tasks.md").read_text(encoding="utf-8")

SCORE_TOLERANCE = 1e-6
"""Of |g_t| |g_i|: scores are stored as float32 (6e-8) and, in the dense table, made by float32 products."""

torch.set_num_threads(1)


def example(name: str) -> ModuleType:
    """Import an example as the file that it is."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def blocks(marker: str) -> list[tuple[str, str]]:
    """What follows the marker's colon, and the fenced block below it."""
    return re.findall(rf"^<!-- {marker}: (.*?) -->\n```\w+\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return user_folder(tmp_path_factory.mktemp("user") / "work")


@pytest.fixture(scope="module")
def perceptron_run(folder: Path) -> Path:
    """The first example in the user's folder, by what the command ``relatif`` calls."""
    words = job("run", Path("my_mlp.toml"), Path("runs/my_mlp"), SMALL_RAY)[3:]
    with sandbox() as machine:
        in_folder(machine, folder, "-m", "relatif.jobs", "run", *words)
    return folder / "runs/my_mlp"


@pytest.fixture(scope="module")
def transformer_run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The second example by a copy of the script elsewhere, without curvature and with all scores."""
    script = shutil.copy(ROOT / "jobs/run.py", tmp_path_factory.mktemp("elsewhere"))
    settings = ("curvature.method=identity", "score.write_scores=true", "train.epochs=8", "train.batch_size=32")
    words = job("run", Path("names_transformer.toml"), Path("runs/names"), [*settings, *SMALL_RAY])[3:]
    with sandbox() as machine:
        in_folder(machine, folder, str(script), *words)
    return folder / "runs/names"


def test_files_are_shown_as_they_are() -> None:
    shown = blocks("file")
    assert [name for name, _ in shown] == ["docs/examples/my_mlp.py", "docs/examples/my_mlp.toml"]
    for name, text in shown:
        assert text == (ROOT / name).read_text(encoding="utf-8")


def test_parts_of_files_are_shown_as_they_are() -> None:
    shown = blocks("part")
    assert [name for name, _ in shown] == ["docs/examples/counts.py"]
    for name, text in shown:
        assert text in (ROOT / name).read_text(encoding="utf-8")


def test_every_field_of_a_task_is_described() -> None:
    section = GUIDE.partition("## The protocol")[2].partition("\n\nEverything")[0]
    assert set(re.findall(r"^\| `(\w+)", section, re.MULTILINE)) - {"field"} == {each.name for each in fields(Task)}


@pytest.mark.long
def test_the_perceptron_runs_in_the_users_folder(perceptron_run: Path) -> None:
    found = tables(perceptron_run)
    assert sorted(found) == sorted(ALWAYS_WRITTEN)
    assert (found["train_examples"].num_rows, found["test_examples"].num_rows) == (TRAINING, TESTS)
    covered = json.loads((perceptron_run / run_directory.COVERAGE).read_bytes())
    assert {parameter["name"]: parameter["covered"] for parameter in covered} == {
        "1.weight": True, "1.bias": True, "3.weight": True, "3.bias": True
    }  # fmt: skip
    tests = found["test_examples"]
    right = np.equal(tests["label"].to_numpy(), tests["predicted_label"].to_numpy())
    assert right.mean() > 0.9, "noisy templates are told apart"


@pytest.mark.long
def test_the_transformers_scores_are_inner_products_of_its_gradients(transformer_run: Path) -> None:
    module, found = example("names_transformer"), tables(transformer_run)
    model = module.NamesTransformer()
    model.load_state_dict(load_file(transformer_run / run_directory.CHECKPOINT))
    model.double().eval()
    train_codes, train_labels = stored(transformer_run, "train")
    test_codes, test_labels = stored(transformer_run, "test")
    assert (len(train_codes), len(test_codes)) == (len(LANGUAGES) * (NAMES - 1), len(LANGUAGES))
    predicted = torch.cat([model(codes[None]) for codes in test_codes]).argmax(dim=1)
    assert predicted.tolist() == found["test_examples"]["explained_label"].to_pylist()

    train = torch.stack(list(gradients(model, train_codes, train_labels)))
    test = torch.stack(list(gradients(model, test_codes, predicted)))
    norms = train.norm(dim=1)
    scale = test.norm(dim=1)[:, None] * norms
    scores = dense(found["scores"], len(test), len(train))
    assert ((torch.from_numpy(scores) - test @ train.T).abs() / scale).max() < SCORE_TOLERANCE
    np.testing.assert_allclose(found["train_examples"]["gradient_norm"].to_numpy(), norms, rtol=SCORE_TOLERANCE)
    for method, expected in (("influence", test @ train.T), ("l_relatif", test @ train.T / norms)):
        rows = [row for row in found["top_k"].to_pylist() if (row["method"], row["rank"]) == (method, 1)]
        best = torch.tensor([row["score"] for row in sorted(rows, key=lambda row: row["test_index"])])
        torch.testing.assert_close(best.double(), expected.amax(dim=1), rtol=SCORE_TOLERANCE, atol=0)
    # Not by chance: labels differ, gradients don't vanish, and padding is there.
    assert len(set(test_labels.tolist())) == len(LANGUAGES)
    assert norms.min() > 0
    assert (train_codes == 0).any(dim=1).float().mean() > 0.5


def stored(run: Path, split: str) -> tuple[Tensor, Tensor]:
    """Codes [N, T] and labels [N] by another library."""
    rows = polars.read_parquet(run / run_directory.DATA / split / "*.parquet")
    codes = np.frombuffer(b"".join(rows["name"].to_list()), np.uint8).reshape(len(rows), -1)
    return torch.tensor(codes), torch.tensor(rows["label"].to_list())


def gradients(model: nn.Module, codes: Tensor, labels: Tensor) -> Iterator[Tensor]:
    """Gradients [P] of the loss, example by example, by another way than hooks."""
    parameters = {name: value.detach() for name, value in model.named_parameters()}

    def loss(values: dict[str, Tensor], row: Tensor, label: Tensor) -> Tensor:
        return -functional_call(model, values, (row[None],)).log_softmax(dim=1)[0, label]

    for row, label in zip(codes, labels, strict=True):
        yield torch.cat([value.flatten() for value in grad(loss)(parameters, row, label).values()])


def test_padding_changes_no_prediction() -> None:
    model = example("names_transformer").NamesTransformer().double().eval()
    codes = torch.randint(1, 58, (5, 7))
    longer = nn.functional.pad(codes, (0, 6))
    torch.testing.assert_close(model(longer), model(codes), rtol=0, atol=1e-12)


def test_all_parameters_of_the_transformer_are_explained() -> None:
    covered = coverage(example("names_transformer").NamesTransformer())
    assert covered.covered_count == covered.total_count
    assert f"All of its {covered.covered_count:,} parameters are explained" in GUIDE


def test_own_features_become_a_prepared_data_set(tmp_path: Path) -> None:
    ((_, code),) = blocks("run")
    with chdir(tmp_path):
        exec(code, names := {})
    dataset = open_dataset(open_store(tmp_path / "my_features"))
    assert (dataset.description.input.dtype, dataset.input_shape) == ("float32", (5,))
    assert (dataset.rows("train"), dataset.rows("test")) == (1000, 200)
    rows = polars.read_parquet(tmp_path / "my_features/test/*.parquet")
    assert b"".join(rows["features"].to_list()) == names["features"][1000:].tobytes()


def test_messages_are_those_of_the_sources() -> None:
    section = GUIDE.partition("## Errors")[2]
    messages = re.findall(r"^\| `(.*?)` \|", section, re.MULTILINE)
    assert len(messages) > 10
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "pipeline").rglob("*.py"))
    assert [message for message in messages if message not in sources] == []
