"""The worked example of a folder of pictures, cut to fewer parameters, against a dense reference."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

from relatif.pipeline.curvature.examples import Examples
from relatif.pipeline.curvature.likelihood import Categorical
from relatif.pipeline.datasets.shards import read_shard
from tests.datasets.tables.test_published import opened
from tests.support.example_scores import Reference, assert_agree, class_terms, pipeline_scores, reference_scores
from tests.support.examples import example

WIDTH, DAMPING, EACH = 4, 0.01, {"train": 6, "test": 2}
SETTINGS = {"image_size": 8, "image_mode": "RGB", "mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}


def test_scores_of_pictures_in_folders_are_those_of_the_explicit_inverse(tmp_path: Path) -> None:
    module, generator = example("pictures"), np.random.default_rng(0)
    for part, count in EACH.items():
        for name in ("bird", "cat", "dog"):
            folder = tmp_path / "album" / part / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = generator.integers(0, 256, (10 + number, 12, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.jpg")
    torch.manual_seed(0)
    model = module.ConvNet(WIDTH).double().eval()
    store, dataset = opened(tmp_path / "album", tmp_path, **SETTINGS)
    parts = {part: read_shard(store, dataset, dataset.shards(part, rows=100)[0]) for part in EACH}
    train, test = (Examples(part.inputs.double(), part.labels, 0) for part in parts.values())  # type: ignore[union-attr]
    found = pipeline_scores(model, Categorical(module.CLASSES), train, test, DAMPING)

    read = {part: as_the_user_reads(tmp_path / "album" / part) for part in EACH}
    reference = Reference(model, functional.cross_entropy, class_terms)
    expected = reference_scores(
        reference, read["train"], read["test"][0], DAMPING, lambda outputs: outputs.argmax(dim=1)
    )
    assert_agree(found, expected)


def as_the_user_reads(folder: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Return pictures and labels of a part, read by pillow alone."""
    inputs, labels = [], []
    for label, name in enumerate(("bird", "cat", "dog")):
        for path in sorted((folder / name).iterdir()):
            pixels = np.asarray(Image.open(path).resize((8, 8), Image.Resampling.BILINEAR))
            inputs.append((torch.from_numpy(pixels.copy()).permute(2, 0, 1).double() / 255 - 0.5) / 0.25)
            labels.append(label)
    return torch.stack(inputs), torch.tensor(labels)
