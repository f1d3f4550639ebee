"""Stands for what a user has already: the data set scenes."""

import numpy as np
from several_labels import FEATURES, LABELS

from relatif import write_dataset
from relatif.pipeline.datasets.description import InputDescription, Provenance, Subject, TargetDescription
from relatif.pipeline.storage.store import open_store

TRAINING, TESTS = 400, 40


def main() -> None:
    """Write features of scenes, and for each thing whether it is there."""
    generator = np.random.default_rng(0)
    things = generator.standard_normal((LABELS, FEATURES))
    subject = Subject(
        name="scenes",
        meaning="made-up scenes with any of three things",
        input=InputDescription(column="features", dtype="float32", shape=(FEATURES,)),
        target=TargetDescription(column="things", dtype="float32", shape=(LABELS,), names=("cat", "dog", "tree")),
        class_names=(),
        provenance=Provenance(origin="made up", licence="none", licence_url="", sources=()),
    )
    splits = {name: drawn(generator, things, count) for name, count in (("train", TRAINING), ("test", TESTS))}
    write_dataset(open_store("scenes"), subject, splits)


def drawn(generator: np.random.Generator, things: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return features [N, FEATURES] and labels [N, LABELS] of 0 and 1, float32."""
    labels = generator.integers(0, 2, (count, LABELS))
    features = labels @ things + generator.normal(0, 0.7, (count, FEATURES))
    return features.astype(np.float32), labels.astype(np.float32)


if __name__ == "__main__":
    main()
