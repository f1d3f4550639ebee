"""Stands for what a user has already: texts/train.csv and texts/test.csv, and lora.pt fine-tuned on the former."""

import random
from pathlib import Path

import pyarrow as pa
import torch
from lora import build_model, read
from torch.nn import functional

TRAINING, TESTS, STEPS = 150, 12, 60
NOUNS = {"animal": ("cat", "dog", "horse"), "place": ("house", "river", "street")}


def main() -> None:
    """Write the texts with their kinds, then the checkpoint."""
    random.seed(0)
    Path("texts").mkdir(exist_ok=True)
    parts = {name: [drawn() for _ in range(count)] for name, count in (("train", TRAINING), ("test", TESTS))}
    for name, rows in parts.items():
        lines = ["text,kind", *(f"{text},{kind}" for text, kind in rows), ""]
        Path(f"texts/{name}.csv").write_text("\n".join(lines), encoding="utf-8")
    torch.save(trained(parts["train"]).state_dict(), "lora.pt")


def drawn() -> tuple[str, str]:
    """Return a text and its kind."""
    kind = random.choice(list(NOUNS))
    return f"{random.choice(('a', 'the', 'my'))} {random.choice(NOUNS[kind])}", kind


def trained(rows: list[tuple[str, str]]) -> torch.nn.Module:
    """Return the model after some steps of Adam on its adapters and its head."""
    torch.manual_seed(0)
    model = build_model()
    texts, kinds = zip(*rows, strict=True)
    examples = read(pa.RecordBatch.from_pydict({"text": list(texts), "kind": list(kinds)}))
    optimizer = torch.optim.Adam([each for each in model.parameters() if each.requires_grad], lr=0.03)
    for _ in range(STEPS):
        optimizer.zero_grad()
        functional.cross_entropy(model(**examples.inputs).logits, examples.targets).backward()
        optimizer.step()
    return model


if __name__ == "__main__":
    main()
