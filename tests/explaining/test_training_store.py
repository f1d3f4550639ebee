"""Kept gradients of examples that are equal, or nearly so: rounded ones are closer than their bounds, answers exact."""

from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pytest

from relatif.pipeline.datasets.writing import write_dataset
from relatif.pipeline.devices import Worker
from relatif.pipeline.explaining.engine import load_engine
from relatif.pipeline.explaining.finished_run import open_finished_run
from relatif.pipeline.storage.store import open_store
from relatif.schemas.methods import METHODS
from tests.support.explained_runs import TESTS, TRAINING, K, finished
from tests.support.images import CLASSES, SIDE, subject

PATTERNS = 8


def write_copies(folder: Path) -> None:
    """Write copies of a few images: a third are equal, the others differ by a grey level in one pixel."""
    generator = np.random.default_rng(0)
    patterns = generator.integers(0, 255, (PATTERNS, SIDE, SIDE)).astype(np.uint8)
    chosen = generator.integers(0, PATTERNS, TRAINING)
    images = patterns[chosen].copy()
    for row in range(TRAINING):
        if row % 3:
            images[row, row % SIDE, row // SIDE % SIDE] += 1
    labels = (chosen % CLASSES).astype(np.int32)
    labels[::17] = (labels[::17] + 1) % CLASSES
    splits = {"train": (images, labels), "test": (images[:TESTS][::-1].copy(), labels[:TESTS][::-1].copy())}
    write_dataset(open_store(folder), subject((SIDE, SIDE), CLASSES), splits, rows_per_group=10, rows_per_file=400)


@pytest.mark.parametrize("kind", ["logistic", "positions"])
def test_equal_and_nearly_equal_examples_are_ranked_as_in_the_table(tmp_path: Path, kind: str) -> None:
    write_copies(tmp_path / "data")
    run = open_finished_run(finished(tmp_path, kind, "score.gradient_store=true"))
    engine = load_engine(run, Worker(2))
    assert engine.training.is_stored
    found = engine.best(engine.rows("test", list(range(TESTS))), list(METHODS), k=K)
    for method, ranks in found.best.items():
        table = run.table("top_k").filter(pc.field("method") == method)
        table = table.sort_by([("test_index", "ascending"), ("rank", "ascending")])
        scores = table["score"].to_numpy().reshape(TESTS, K)
        if kind == "logistic" or method == "nearest_neighbour":
            assert (ranks.indices.numpy() == table["train_index"].to_numpy().reshape(TESTS, K)).all(), method
            assert (ranks.scores.numpy() == scores).all(), method
        else:  # float32 sums in another order
            assert np.abs(ranks.scores.numpy() - scores).max() <= 1e-5 * np.abs(scores).max(), method
