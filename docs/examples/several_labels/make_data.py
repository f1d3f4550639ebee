"""Stands for what a user has already: scenes/train.csv and scenes/test.csv, with a column of 0 and 1 for each thing."""

from pathlib import Path

import numpy as np
from several_labels import FEATURES, LABELS

TRAINING, TESTS = 400, 40


def main() -> None:
    """Write features of scenes, and for each thing whether it is there."""
    generator = np.random.default_rng(0)
    things = generator.standard_normal((LABELS, FEATURES))
    Path("scenes").mkdir(exist_ok=True)
    header = ",".join([*(f"feature_{number}" for number in range(FEATURES)), "cat", "dog", "tree"])
    formats = ["%.9g"] * FEATURES + ["%d"] * LABELS
    for name, count in (("train", TRAINING), ("test", TESTS)):
        columns = np.hstack(drawn(generator, things, count))
        np.savetxt(f"scenes/{name}.csv", columns, formats, ",", header=header, comments="")


def drawn(generator: np.random.Generator, things: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return features [N, FEATURES] and labels [N, LABELS] of 0 and 1, float32."""
    labels = generator.integers(0, 2, (count, LABELS))
    features = labels @ things + generator.normal(0, 0.7, (count, FEATURES))
    return features.astype(np.float32), labels.astype(np.float32)


if __name__ == "__main__":
    main()
