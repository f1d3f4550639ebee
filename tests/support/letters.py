"""A task on surnames whose layers read letter by letter, and finished runs of it; every parameter is explained.

N names, T letters of the longest name.
"""

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn

from relatif.pipeline.datasets.surnames import VOCABULARY
from relatif.pipeline.tasks.task import Task, cross_entropy
from tests.support.explained_runs import finished
from tests.support.images import untrained
from tests.support.names import ENDINGS, STARTS
from tests.support.runs import config, run_named
from tests.support.without_ray import without_ray

LETTERS = "tests.support.letters:letters"
WIDTH, LANGUAGES, NAMES = 3, ("Czech", "Polish", "Russian"), 24


class Letters(nn.Module):
    """An embedding and a layer at every letter, and a head on the mean over a name's letters."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(len(VOCABULARY) + 1, WIDTH, padding_idx=0)
        self.layer = nn.Linear(WIDTH, WIDTH)
        self.head = nn.Linear(WIDTH, len(LANGUAGES))

    def forward(self, codes: Tensor) -> Tensor:
        """Return logits [N, C] of codes [N, T], 0 behind a name's end."""
        codes = codes.long()
        there = (codes != 0)[:, :, None]
        sent = torch.tanh(self.layer(self.words(codes))) * there
        return self.head(sent.sum(dim=1) / there.sum(dim=1))


def letters() -> Task:
    """Return the task, its model left as it was initialized."""
    return Task("letters", len(LANGUAGES), Letters, lambda inputs: inputs, cross_entropy, untrained)


def finished_letters(folder: Path, *settings: str) -> Path:
    """Make a run on made-up surnames without Ray, and return its directory."""
    source = folder / "names"
    source.mkdir()
    for language in LANGUAGES:
        names = [start + ENDINGS[language] for start in STARTS[:NAMES]]
        (source / f"{language}.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
    small = ("data.shard_rows=200", "score.top_k=5", "curvature.damping=0.01")
    with without_ray():
        run_named(config(source, *small, *settings, task=LETTERS), folder / "run", "train", "factors", "score")
    return folder / "run"


@cache
def _folder() -> TemporaryDirectory[str]:
    return TemporaryDirectory(prefix="letters")


@cache
def letters_run() -> Path:
    """Return the directory of one run on names, which all tests of a process read."""
    return finished_letters(Path(_folder().name))


@cache
def pictures_run() -> Path:
    """Return the directory of one run on pictures, whose gradients have several positions, for all tests likewise."""
    return finished(Path(_folder().name), "positions", name="pictures")
