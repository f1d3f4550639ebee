"""Stands for what a user has already: texts/train.csv and texts/test.csv, and two models trained on the former."""

import random
from pathlib import Path

import pyarrow as pa
import torch
from small_gpt import LETTERS, PADDING, WORDS, build_model, read
from torch.nn import functional

TRAINING, TESTS, STEPS = 150, 12, 60
STARTS, ENDS = ("a red", "the old", "one", "my", "no"), ("cat", "house", "river", "tree", "song")


def main() -> None:
    """Write the texts, then both checkpoints."""
    random.seed(0)
    Path("texts").mkdir(exist_ok=True)
    parts = {name: [text() for _ in range(count)] for name, count in (("train", TRAINING), ("test", TESTS))}
    for name, texts in parts.items():
        Path(f"texts/{name}.csv").write_text("\n".join(["text", *texts, ""]), encoding="utf-8")
    for name, tied in (("tied", True), ("untied", False)):
        torch.save(trained(parts["train"], tied=tied).state_dict(), f"{name}.pt")


def text() -> str:
    """Return a start and an end, with a letter between them now and then."""
    return f"{random.choice(STARTS)} {random.choice(('', random.choice(LETTERS[:-1]) + ' '))}{random.choice(ENDS)}"


def trained(texts: list[str], *, tied: bool) -> torch.nn.Module:
    """Return the model after some steps of Adam."""
    torch.manual_seed(0)
    model = build_model(tied=tied)
    examples = read(pa.RecordBatch.from_pydict({"text": texts}))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(STEPS):
        optimizer.zero_grad()
        outputs = model(examples.inputs).logits[:, :-1].reshape(-1, WORDS)
        functional.cross_entropy(outputs, examples.targets[:, 1:].reshape(-1), ignore_index=PADDING).backward()
        optimizer.step()
    return model


if __name__ == "__main__":
    main()
