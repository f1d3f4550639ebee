"""What the train stage refuses before it publishes a checkpoint, and what it leaves beside one; no Ray is needed."""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from relatif.pipeline.devices import Worker
from relatif.pipeline.explaining.audited import ROWS
from relatif.pipeline.runs.durable import prove
from relatif.pipeline.runs.opening import open_run
from relatif.pipeline.runs.running import begin
from relatif.pipeline.stages.train import AUDIT, TRAIN, TrainUnit
from relatif.pipeline.tasks.task import Task, load_model
from relatif.schemas import run_directory
from relatif.schemas.errors import ModelError, NumericalError
from tests.support import audited
from tests.support.featured import as_built, config_of, source_of, task_of, write_features

torch.set_num_threads(1)


def good() -> Task:
    return task_of(audited.good)


def misused() -> Task:
    return task_of(audited.hooked_parameter)


def _returning(change: Callable[[dict[str, Tensor]], object]) -> Task:
    return replace(good(), train=lambda *given: change(as_built(*given)))  # type: ignore[arg-type,return-value]


def nothing() -> Task:
    return _returning(lambda state: None)


def arrays() -> Task:
    return _returning(lambda state: {name: value.numpy() for name, value in state.items()})


def prefixed() -> Task:
    return _returning(lambda state: {f"module.{name}": value for name, value in state.items()})


def diverged() -> Task:
    return _returning(lambda state: state | {"head.bias": torch.full((3,), np.nan)})


HERE = "tests.stages.test_train_audit"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_features(tmp_path_factory.mktemp("data") / "data")


def unit(data: Path, out: Path, task: str, worker: Worker | None = None) -> TrainUnit:
    source = replace(source_of(data, out), task=f"{HERE}:{task}")
    shards = [source.dataset.shards(split, rows=20) for split in ("train", "test")]
    return TrainUnit(source, *shards, config_of(data), worker or Worker())


def files(out: Path) -> list[str]:
    return sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("task", "kind", "message"),
    [
        ("nothing", ModelError, "found NoneType; end it with return model.state_dict"),
        ("arrays", ModelError, "to return tensors, found ndarray for first.weight"),
        ("prefixed", ModelError, "found first.weight, .* missing and module.first.weight, .* unknown"),
        ("diverged", NumericalError, "finite parameters after training, found head.bias not to be"),
        ("misused", ModelError, "captured gradient of parameter first.weight to be autograd's"),
    ],
)
def test_nothing_is_published_of_what_can_not_be_scored(
    data: Path, tmp_path: Path, task: str, kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        unit(data, tmp_path / "run", task)("train")
    assert files(tmp_path) == []


def test_outputs_of_the_first_training_rows_lie_beside_the_checkpoint(data: Path, tmp_path: Path) -> None:
    trained = unit(data, tmp_path, "good")
    made = trained("train")
    assert [each.path for each in made.outputs] == [run_directory.CHECKPOINT, run_directory.OUTPUTS] == files(tmp_path)
    stored = load_file(tmp_path / run_directory.OUTPUTS)
    assert torch.equal(stored["inputs"], trained.source.stored(trained.shards[0]).inputs[:ROWS])
    model = load_model(good(), load_file(tmp_path / run_directory.CHECKPOINT))
    torch.testing.assert_close(stored["outputs"], model(stored["inputs"].double()), rtol=1e-12, atol=1e-12)


def test_they_are_the_same_bit_by_bit_for_any_number_of_cores(data: Path, tmp_path: Path) -> None:
    made = [unit(data, tmp_path / str(cores), "good", Worker(cores))("train") for cores in (1, 2)]
    assert made[0] == made[1]


def test_what_the_audits_found_stands_in_the_record(data: Path, tmp_path: Path) -> None:
    run = open_run(config_of(data, task=f"{HERE}:good"), str(tmp_path / "run"))
    proofs = begin(run, [TRAIN])
    before = json.loads((tmp_path / "run" / run_directory.RUN_JSON).read_bytes())["audit"]
    assert before["untrained"]["perturbed"] is True
    assert before["untrained"]["rows"] == {"train": [0, ROWS], "test": [0, ROWS]}
    assert before["trained"] is None
    trained = TrainUnit(run.source, run.train_shards, run.test_shards, run.config, Worker())
    made = prove(run.store, proofs.unit(TRAIN), partial(trained, "train"))
    begin(run, [TRAIN])
    after = json.loads((tmp_path / "run" / run_directory.RUN_JSON).read_bytes())["audit"]
    assert after["untrained"] == before["untrained"]
    assert after["trained"] == json.loads(made.facts[AUDIT])
    assert max(after["trained"]["largest_difference"].values()) < 1e-9


def test_a_model_that_can_not_be_scored_is_refused_before_any_work(data: Path, tmp_path: Path) -> None:
    run = open_run(config_of(data, task=f"{HERE}:misused"), str(tmp_path / "run"))
    with pytest.raises(ModelError, match=r"captured gradient of parameter first\.weight to be autograd's"):
        begin(run, [TRAIN])
    assert files(tmp_path) == []
