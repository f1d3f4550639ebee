"""Stands for what a user has already: images/train.parquet and images/test.parquet, and resnet.pt trained on them."""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from resnet import CLASSES, ResNet
from torch import nn

SIDE, TRAINING, TESTS, EPOCHS = 16, 240, 40, 12


def main() -> None:
    """Write the images, then the checkpoint as a script with DataParallel saves it: its names begin with module."""
    generator = np.random.default_rng(0)
    templates = generator.integers(0, 256, (CLASSES, 3, SIDE, SIDE))
    parts = {name: drawn(generator, templates, count) for name, count in (("train", TRAINING), ("test", TESTS))}
    Path("images").mkdir(exist_ok=True)
    for name, (images, labels) in parts.items():
        rows = [{"bytes": encoded(image), "path": None} for image in images]
        kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        pq.write_table(pa.table({"image": pa.array(rows, kind), "label": labels}), f"images/{name}.parquet")
    model = trained(*map(torch.from_numpy, parts["train"]))
    torch.save({"epoch": EPOCHS, "state_dict": nn.DataParallel(model).state_dict()}, "resnet.pt")


def drawn(generator: np.random.Generator, templates: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return noisy copies of the templates, uint8 [N, 3, SIDE, SIDE], some with a wrong label, and their labels."""
    labels = generator.integers(0, CLASSES, count)
    noisy = templates[labels] + generator.normal(0, 60, (count, *templates.shape[1:]))
    labels[: count // 40] = (labels[: count // 40] + 1) % CLASSES
    return noisy.clip(0, 255).astype(np.uint8), labels


def encoded(image: np.ndarray) -> bytes:
    """Return an image [3, SIDE, SIDE] as PNG."""
    file = io.BytesIO()
    Image.fromarray(image.transpose(1, 2, 0)).save(file, "PNG")
    return file.getvalue()


def trained(images: torch.Tensor, labels: torch.Tensor) -> nn.Module:
    """Return the network after some epochs of SGD, in training mode as batch normalization wants it."""
    torch.manual_seed(0)
    model = ResNet()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(images)).split(40):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images[batch]), labels[batch]).backward()
            optimizer.step()
    return model


if __name__ == "__main__":
    main()
