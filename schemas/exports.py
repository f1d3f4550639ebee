"""What an export is made of: the columns of ``explanations``, and those that are added to a run's tables."""

from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

from relatif.schemas.columns import METHOD, TEST_ID, TEST_INDEX, TRAIN_ID, TRAIN_INDEX, TableSpec, column, maybe
from relatif.schemas.tables import TEST_EXAMPLES, TOP_K, TRAIN_EXAMPLES

Side = Literal["test", "train"]
"""The explained input of a row, or the training example that it names."""

NAME = "_name"
"""What the name of a column of classes has added for the column of their names."""


@dataclass(frozen=True)
class Joined:
    """A column of ``explanations`` that is taken from ``test_examples`` or ``train_examples`` by a row's index."""

    name: str
    side: Side
    source: str

    @property
    def field(self) -> pa.Field:
        """The column as it is exported, with the meaning that its source has."""
        spec = TRAIN_EXAMPLES if self.side == "train" else TEST_EXAMPLES
        field = spec.schema.field(self.source)
        told = {key: value.replace(b"of label", b"of train_label") for key, value in field.metadata.items()}
        return field.with_name(self.name).with_metadata(told)


JOINED = (
    Joined("test_label", "test", "label"),
    Joined("test_predicted_label", "test", "predicted_label"),
    Joined("explained_label", "test", "explained_label"),
    Joined("test_probability", "test", "probability"),
    Joined("test_loss", "test", "loss"),
    Joined("train_label", "train", "label"),
    Joined("train_predicted_label", "train", "predicted_label"),
    Joined("train_probability", "train", "probability"),
    Joined("train_loss", "train", "loss"),
    Joined("train_self_influence", "train", "self_influence"),
)
"""What is said of both examples of an explanation."""

DENOMINATORS = ("theta_norm", "self_influence")
"""Columns of ``train_examples`` by which relative influence becomes influence again."""

EFFECT = maybe(
    column(
        "effect",
        pa.float64(),
        "influence / n, whatever the method: leaving the example out raises the explained loss by about so much (a "
        "positive one helps); null for nearest_neighbour and gradient_cosine",
        "nats, or the unit of score.measurement",
    )
)


def class_names(field: pa.Field) -> pa.Field:
    """Return the column of the names of a column of classes."""
    return maybe(column(f"{field.name}{NAME}", pa.string(), f"name of the class {field.name}"))


def text(side: Side) -> pa.Field:
    """Return the column of the texts of test inputs or of training examples, which ``--with-text`` adds."""
    whose = "training example" if side == "train" else "test input"
    return maybe(column(f"{side}_text", pa.string(), f"text of the {whose}, before it was encoded; with --with-text"))


def _explanations() -> pa.Schema:
    by_name = {each.name: each for each in JOINED}
    named = [name for name, each in by_name.items() if each.source.endswith("label")]
    fields = [METHOD, TOP_K.schema.field("rank"), TOP_K.schema.field("score"), EFFECT]
    for side, keys in (("test", (TEST_INDEX, TEST_ID)), ("train", (TRAIN_INDEX, TRAIN_ID))):
        fields += keys
        for each in (each for each in JOINED if each.side == side):
            fields += [each.field, *([class_names(each.field)] if each.name in named else [])]
    return pa.schema(fields)


EXPLANATIONS = TableSpec(
    "explanations",
    "top_k, with what test_examples and train_examples say of both examples: only exports have it",
    _explanations(),
)
