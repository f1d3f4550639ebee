"""Checkpoints, and tasks that name a model alone, that have to be refused."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from tests.support.bad_inputs import Case, command

MODULE = """
from torch import nn
def make():
    return nn.Sequential(nn.Flatten(), nn.Linear(36, 4))
def number():
    return 7
"""

CHECKPOINT = "model.checkpoint=model.pt"


def state(outputs: int = 4) -> dict[str, Tensor]:
    """Return the state of the model, or of one with another number of outputs."""
    return {"1.weight": torch.zeros(outputs, 36), "1.bias": torch.zeros(outputs)}


def saved(value: Callable[[], object]) -> Callable[[Path], None]:
    """Return a maker of a file of ``torch.save``."""
    return lambda folder: torch.save(value(), folder / "model.pt")


def nothing(_: Path) -> None:
    """Make no file."""


def model(name: str, make: Callable[[Path], None], expected: str, *settings: str, task: str = "named:make") -> Case:
    """Return the case of a checkpoint that ``make`` writes, or of other settings of the model."""
    return Case("model", name, partial(_arguments, make, settings or (CHECKPOINT,), task), expected)


def _arguments(make: Callable[[Path], None], settings: tuple[str, ...], task: str, folder: Path) -> list[str]:
    (folder / "named.py").write_text(MODULE)
    make(folder)
    return command(folder, f"task={task}", "score.top_k=2", *settings)


def text(folder: Path) -> None:
    """Make a file that is no checkpoint."""
    (folder / "model.pt").write_text("weights")


def not_finite() -> dict[str, Tensor]:
    """Return a state with a number that is not finite."""
    return state() | {"1.bias": torch.tensor([0.0, float("nan"), 0.0, 0.0])}


CASES = [
    model("no checkpoint and no recipe", nothing, r"a recipe to train .* set model\.checkpoint", "score.top_k=3"),
    model("checkpoint not there", nothing, "expected a checkpoint at .*found nothing there"),
    model("checkpoint of text", text, "a checkpoint of tensors by name at .*; name the file of weights"),
    model("whole module", saved(lambda: nn.Linear(2, 2)), r"a pickle of more than tensors.*save its state alone"),
    model("folder without weights", nothing, r"found only .*; name the file itself", "model.checkpoint=data"),
    model("another shape", saved(lambda: state(5)), r"found 2 of another shape or kind \(1\.weight float32 \[5, 36\]"),
    model(
        "names missing", saved(lambda: {"1.weight": state()["1.weight"]}), r"found 1 missing \(1\.bias float32 \[4\]\)"
    ),
    model("a number not finite", saved(not_finite), r"finite numbers in the checkpoint .*found 1\.bias"),
    model(
        "no model and no task",
        nothing,
        r"to return a Task, found 7; return a Task, or an nn\.Module",
        task="named:number",
    ),
    model(
        "Hugging Face without a folder",
        nothing,
        r"a model folder with config\.json",
        "score.top_k=3",
        task="hugging_face",
    ),
    model("a likelihood's other setting", saved(state), r"found model\.variance", CHECKPOINT, "model.variance=2.0"),
    model(
        "outputs not told", saved(state), r"expected model\.outputs, how many", CHECKPOINT, "model.likelihood=gaussian"
    ),
    model("another number of classes", saved(state), "expected data of 9 classes", CHECKPOINT, "model.outputs=9"),
    model("test rows beyond the data", saved(state), "below the 10 test inputs", CHECKPOINT, "score.test_rows=[10]"),
    model("test rows of no form", saved(state), r"score\.test_rows", CHECKPOINT, "score.test_rows=wrong"),
    model("scored part not there", saved(state), "expected a part 'more'", CHECKPOINT, "data.scored=more"),
]
