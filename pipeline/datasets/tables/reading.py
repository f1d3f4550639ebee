"""How rows become examples: the settings of ``data``, the task's own reader, and what is known of the classes."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from relatif.pipeline.checkpoints.text_models import TextModel
from relatif.pipeline.inputs import Inputs
from relatif.schemas.config import DataConfig

IGNORED = -100
"""Target of a token that is left out, where nothing else is said."""

TABLE_SETTINGS = (
    "split_column",
    "hold_out",
    "input_columns",
    "target_columns",
    "class_names",
    "id_column",
    "image_size",
    "image_mode",
    "mean",
    "std",
    "tokenizer",
)
"""Settings that only a table has: with one of them files are read as a table."""


@dataclass(frozen=True, eq=False)
class Examples:
    """What ``read`` of a task makes of rows: inputs [N, ...], one tensor, a tuple or a dict, and targets [N, ...].

    Targets are int64 [N] class numbers, float [N, D] numbers, or whole numbers of any other shape.
    """

    inputs: Inputs
    targets: Any


@dataclass(frozen=True)
class OwnReader:
    """A task's ``read``, which turns a ``pyarrow.RecordBatch`` into Examples, with the digest of its module's code."""

    read: Callable[[Any], Examples]
    code: str


@dataclass(frozen=True)
class Begun:
    """That results were made of data that was prepared before, which then must stay.

    ``train`` is the fingerprint of the training part that they were made from, ``whole`` that of all the data; None
    where it is not known.
    """

    train: str | None = None
    whole: str | None = None


@dataclass(frozen=True)
class Reading:
    """What is asked of the data; ``checkpoint_names`` are the classes that a checkpoint names, in its order.

    ``begun`` says what results were made from, None where nothing was made of what was prepared before. ``text_model``
    tells what the model's folder says of tokens, ``ignore_index`` is the target of a token that is left out.
    """

    config: DataConfig = field(default_factory=lambda: DataConfig(source="."))
    own: OwnReader | None = None
    checkpoint_names: Callable[[], tuple[str, ...] | None] = lambda: None
    class_count: int | None = None
    begun: Begun | None = field(default_factory=Begun)
    text_model: Callable[[], TextModel] = TextModel
    ignore_index: int = IGNORED

    @property
    def wants_table(self) -> bool:
        """Whether something is asked for that only tables have."""
        named = any(getattr(self.config, name) is not None for name in TABLE_SETTINGS)
        several = isinstance(self.config.label_column, tuple)
        return named or several or self.own is not None or self.config.part_names != ("train", "test")

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the parts that are used."""
        scored = getattr(self.config, "scored", None)
        return tuple(dict.fromkeys([*self.config.part_names, *([scored] if scored else [])]))
