"""Stands for what a user has already: houses/train.csv and houses/test.csv, and regression.pt trained on the former."""

from pathlib import Path

import numpy as np
import torch
from regression import FEATURES, Regressor

TRAINING, TESTS, STEPS, NOISE = 400, 40, 400, 0.3


def main() -> None:
    """Write the measurements with their prices, then the checkpoint."""
    generator = np.random.default_rng(0)
    Path("houses").mkdir(exist_ok=True)
    parts = {name: drawn(generator, count) for name, count in (("train", TRAINING), ("test", TESTS))}
    header = ",".join([*(f"measurement_{number}" for number in range(FEATURES)), "price"])
    for name, columns in parts.items():
        np.savetxt(f"houses/{name}.csv", np.hstack(columns), "%.9g", ",", header=header, comments="")
    torch.save(trained(*map(torch.from_numpy, parts["train"])).state_dict(), "regression.pt")


def drawn(generator: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return measurements [N, FEATURES] and prices [N, 1], float32."""
    inputs = generator.standard_normal((count, FEATURES))
    prices = np.sin(inputs[:, :1]) + inputs[:, 1:2] * inputs[:, 2:3] / 2 + NOISE * generator.standard_normal((count, 1))
    return inputs.astype(np.float32), prices.astype(np.float32)


def trained(inputs: torch.Tensor, prices: torch.Tensor) -> torch.nn.Module:
    """Return the network after some steps of Adam."""
    torch.manual_seed(0)
    model = Regressor()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02, weight_decay=1e-4)
    for _ in range(STEPS):
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(model(inputs), prices[:, 0]).backward()
        optimizer.step()
    return model


if __name__ == "__main__":
    main()
