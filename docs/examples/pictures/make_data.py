"""Stands for what a user has already: a folder of pictures of several sizes, and convnet.pt trained on them."""

from pathlib import Path

import numpy as np
import torch
from pictures import CLASSES, ConvNet
from PIL import Image
from torch import nn

SIDE, TRAINING, TESTS, EPOCHS = 16, 60, 10, 20
NAMES = ("bird", "cat", "dog")


def main() -> None:
    """Write the pictures, then the checkpoint of a network that was trained on them."""
    generator = np.random.default_rng(0)
    templates = generator.integers(0, 256, (CLASSES, 8, 8, 3))
    for part, count in (("train", TRAINING), ("test", TESTS)):
        for label, name in enumerate(NAMES):
            folder = Path("album") / part / name
            folder.mkdir(parents=True, exist_ok=True)
            for number in range(count):
                noisy = (templates[label] + generator.normal(0, 50, (8, 8, 3))).clip(0, 255).astype(np.uint8)
                size = tuple(int(side) for side in generator.integers(18, 30, 2))
                Image.fromarray(noisy).resize(size).save(folder / f"{number:03d}.jpg")
    torch.save(trained().state_dict(), "convnet.pt")


def trained() -> nn.Module:
    """Return the network after some epochs of SGD, on pictures that are read as the configuration says."""
    torch.manual_seed(0)
    inputs, labels = [], []
    for label, name in enumerate(NAMES):
        for path in sorted((Path("album/train") / name).iterdir()):
            with Image.open(path) as picture:
                pixels = np.asarray(picture.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR))
            inputs.append(torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 255)
            labels.append(label)
    images, targets = (torch.stack(inputs) - 0.5) / 0.25, torch.tensor(labels)
    model = ConvNet()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(images)).split(30):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images[batch]), targets[batch]).backward()
            optimizer.step()
    return model


if __name__ == "__main__":
    main()
