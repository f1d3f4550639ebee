"""Inputs that have to be refused: what a case is, and the command line that the cases change in one place."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.support.images import LOGISTIC, write_images

PASSWORD = "open-sesame"
"""In addresses of cases; no line may show it."""

TRAIN_ROWS, TEST_ROWS = 60, 10


@dataclass(frozen=True)
class Case:
    """An input that ``relatif run`` has to refuse.

    ``arguments(folder)`` makes the files in an empty folder, where the command then runs, and returns the command line
    after ``relatif run``. ``expected`` is a regular expression that is found in the one line of the error. A ``late``
    case can be known only from work that was done: it may use Ray and leave a checkpoint.
    """

    part: str
    name: str
    arguments: Callable[[Path], list[str]]
    expected: str
    late: bool = False

    @property
    def label(self) -> str:
        """Return how pytest calls it."""
        return f"{self.part}: {self.name}"


def command(folder: Path, *settings: str, config: str = "", out: str = "out") -> list[str]:
    """Return a command line that would work but for ``settings``, the text added to its TOML file, or ``out``.

    The settings name the data ``data``, which ``images`` writes, unless they name another ``data.source``.
    """
    if not any(setting.startswith("data.source=") for setting in settings):
        images(folder)
    base = (
        f'task = "{LOGISTIC}"\n\n[cluster]\nlocal_cpus = 1\n\n[data]\nsource = "{folder / "data"}"\nshard_rows = 20\n'
    )
    (folder / "run.toml").write_text(base + config)
    sets = [word for setting in settings for word in ("--set", setting)]
    return ["--config", "run.toml", "--out", out, *sets]


def images(folder: Path) -> Path:
    """Write small made-up images as a prepared data set below a folder and return its address."""
    return write_images(folder / "data", train=TRAIN_ROWS, test=TEST_ROWS, rows_per_group=20)
