"""The train stage: the recipe's result lies in the run, with proof, whatever it was computed on."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from relatif.schemas import run_directory
from relatif.schemas.errors import ClusterError, NumericalError
from tests.reference.problems import images
from tests.reference.training import optimum
from tests.support.images import CLASSES, LOGISTIC, SIDE, features, write_images
from tests.support.runs import MNIST, begun, config, proof, run_named

pytestmark = pytest.mark.usefixtures("local_ray")

TRAINING = 300
WEIGHT_DECAY = 1e-2
AT_THE_OPTIMUM = 1e-5
"""Absolute, of parameters of order 1: the recipe stops at whitened gradients of 1e-8; weights are float32."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("data"), train=TRAINING)


def test_the_checkpoint_is_the_optimum_of_the_training_set(data: Path, tmp_path: Path) -> None:
    settings = (f"train.weight_decay={WEIGHT_DECAY}", "train.tolerance=1e-8", "data.shard_rows=100")
    run = run_named(config(data, *settings), tmp_path, "train")
    made = images(0, train=TRAINING, test=40, side=SIDE, classes=CLASSES, wrong=TRAINING // 50)
    expected = optimum(features(made.train_images), made.train_labels, CLASSES, weight_decay=WEIGHT_DECAY)
    found = load_file(tmp_path / run_directory.CHECKPOINT)
    assert found["linear.weight"].dtype == torch.float32
    assert abs(found["linear.weight"].numpy() - expected[:, :-1]).max() < AT_THE_OPTIMUM
    assert abs(found["linear.bias"].numpy() - expected[:, -1]).max() < AT_THE_OPTIMUM
    assert proof(run, "train").outputs[0].path == run_directory.CHECKPOINT
    with safe_open(tmp_path / run_directory.CHECKPOINT, "pt") as file:
        assert file.metadata() == {"task": LOGISTIC, "seed": "0"}
    assert json.loads((tmp_path / run_directory.RUN_JSON).read_bytes())["checkpoint"]["sha256"]


def test_the_checkpoint_is_the_same_bit_by_bit_for_any_number_of_cores(tmp_path: Path) -> None:
    """Real images: sums over 784 pixels are long enough to round otherwise when they are split over threads."""
    checkpoints = set()
    for threads in (1, 2):
        out = tmp_path / str(threads)
        settings = ("data.train_limit=2000", "data.shard_rows=1000", "train.tolerance=1e-2")
        cores = f"cluster.threads_per_worker={threads}"
        run_named(config(MNIST, *settings, cores, task="mnist_logistic"), out, "train")
        checkpoints.add((out / run_directory.CHECKPOINT).read_bytes())
    assert len(checkpoints) == 1


def test_training_that_does_not_converge_leaves_no_checkpoint(data: Path, tmp_path: Path) -> None:
    with pytest.raises(NumericalError, match=r"train\.tolerance.*2 iterations; raise train\.max_iterations"):
        run_named(config(data, "train.max_iterations=2"), tmp_path, "train")
    assert not (tmp_path / run_directory.CHECKPOINT).exists()
    assert begun(config(data, "train.max_iterations=200"), tmp_path).run.config.train.max_iterations == 200


def test_more_cores_than_there_are_are_refused_at_once(data: Path, tmp_path: Path) -> None:
    """Ray would let the task wait for ever."""
    with pytest.raises(ClusterError, match=r"expected room for 1 worker\(s\) of 3 core\(s\).*found 2 core"):
        run_named(config(data, "cluster.threads_per_worker=3"), tmp_path, "train")
