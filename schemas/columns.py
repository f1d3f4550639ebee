"""What tables are made of: a table's name, meaning and schema, and the columns that several tables share."""

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa

from relatif.schemas.digests import SCHEMA_VERSION
from relatif.schemas.methods import METHODS

METADATA_PREFIX = "relatif."


@dataclass(frozen=True)
class TableSpec:
    """A table's name, its meaning and its schema."""

    name: str
    meaning: str
    schema: pa.Schema

    def with_metadata(self, metadata: Mapping[str, str]) -> pa.Schema:
        """Return the schema with the metadata of every file: table, meaning, schema version and ``metadata``."""
        own = {"table": self.name, "meaning": self.meaning, "schema_version": str(SCHEMA_VERSION)}
        return self.schema.with_metadata({METADATA_PREFIX + key: value for key, value in {**own, **metadata}.items()})


def column(name: str, kind: pa.DataType, meaning: str, unit: str = "1") -> pa.Field:
    """Return a column without nulls that says what it means, in which unit."""
    return pa.field(name, kind, nullable=False, metadata={"meaning": meaning, "unit": unit})


def maybe(field: pa.Field) -> pa.Field:
    """Return a column that is null where it does not apply to the task's likelihood."""
    return field.with_nullable(True)


TRAIN_INDEX = column("train_index", pa.int64(), "row of the training set, from 0", "row")
TEST_INDEX = column("test_index", pa.int64(), "row of the test set, from 0", "row")
TRAIN_ID = maybe(column("train_id", pa.string(), "the training example's own identifier, of data.id_column"))
TEST_ID = maybe(column("test_id", pa.string(), "the test input's own identifier, of data.id_column"))
METHOD = column("method", pa.string(), f"one of {', '.join(METHODS)}")
LABEL = maybe(column("label", pa.int32(), "class that the data gives, merged and flipped as the run asks", "class"))
PREDICTED = maybe(column("predicted_label", pa.int32(), "class that the model finds most probable", "class"))
_NUMBERS = pa.list_(pa.field("element", pa.float64()))
TARGET = maybe(column("target", _NUMBERS, "target that is no class, as the data gives it; null where left out"))
PREDICTION = maybe(
    column("prediction", _NUMBERS, "what the model predicts in its place: numbers, probabilities of labels or tokens")
)
K = column("k", pa.int32(), "how many examples of each explanation are counted, from the first", "examples")
