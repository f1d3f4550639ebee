"""The description of a prepared data set, ``dataset.json``: written last, so its presence proves the files."""

import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

import numpy as np
import pyarrow as pa
from pydantic import (
    Field,
    ValidationError,
    model_validator,
)

from relatif.pipeline.datasets.provenance import Described, Provenance, WithAdditions
from relatif.pipeline.storage.store import Store
from relatif.schemas.digests import digest
from relatif.schemas.errors import DataError

DATASET_JSON = "dataset.json"
FORMAT = 1
"""Version of the layout; only additions keep it."""

LABEL_COLUMN = "label"
TARGET_COLUMN = "target"
ID_COLUMN = "id"

LARGEST_ROW_BYTES = 2**31 - 1
"""What Arrow's rows of one length hold."""

Split = str
"""Name of a part of the data: ``train``, ``test``, or another."""

_FOLDER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")

STORED: dict[str, np.dtype[Any]] = {
    "uint8": np.dtype(np.uint8),
    "float32": np.dtype("<f4"),
    "int64": np.dtype("<i8"),
    "bool": np.dtype(np.bool_),
}
"""How values of each type are stored: little-endian, on any machine."""


class ValuesDescription(WithAdditions):
    """A column whose rows hold the bytes of ``shape`` values of ``dtype`` (see STORED), in C order."""

    column: str
    dtype: str
    shape: tuple[Annotated[int, Field(ge=1)], ...]

    @model_validator(mode="after")
    def _fits_a_row(self) -> Self:
        if self.row_bytes > LARGEST_ROW_BYTES:
            raise ValueError(f"an input of shape {self.shape} has {self.row_bytes} bytes, more than a row may have")
        return self

    @property
    def numbers(self) -> int:
        """Number of values of one row."""
        return math.prod(self.shape)

    @property
    def stored(self) -> np.dtype[Any]:
        """Type of a value as it is stored."""
        return STORED[self.dtype]

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return self.numbers * self.stored.itemsize

    @property
    def arrow_type(self) -> pa.DataType:
        """Type of the column in Parquet."""
        return pa.binary(self.row_bytes)


class InputDescription(ValuesDescription):
    """A column of inputs.

    ``axes`` names the axes of ``shape``: channel, row, column for images (channels red, green, blue, or one of grey).
    With ``vocabulary`` the values are codes of characters: c stands for ``vocabulary[c - 1]``, 0 for padding.
    ``text_column`` names a column with the text of each input before it was encoded. With ``mean`` and ``std``, one
    number for each channel, bytes are read as (value / 255 - mean) / std, float32. ``name`` is that of the model's
    argument, where the model is called by names.
    """

    dtype: Literal["uint8", "float32", "int64", "bool"]
    shape: tuple[Annotated[int, Field(ge=1)], ...] = Field(min_length=1)
    axes: tuple[str, ...] | None = None
    vocabulary: str | None = None
    text_column: str | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    name: str | None = None

    @model_validator(mode="after")
    def _can_be_normalized(self) -> Self:
        lengths = {None if values is None else len(values) for values in (self.mean, self.std)}
        if lengths != {None} and (lengths != {self.shape[0]} or self.dtype != "uint8" or 0.0 in (self.std or ())):
            raise ValueError(f"mean and std are one number for each of {self.shape[0]} channels of bytes, std not 0")
        return self


class TargetDescription(ValuesDescription):
    """The column of targets that are no class: numbers of a regression, words of a sequence, a class for each pixel.

    ``names`` are the names of the user's columns that they come from.
    """

    dtype: Literal["float32", "int64"]
    names: tuple[str, ...] | None = None


class PartDescription(Described):
    """One Parquet file: path below the data set, rows of each row group, size and SHA-256 of the file."""

    path: str
    rows: int = Field(ge=0)
    row_groups: tuple[Annotated[int, Field(ge=0)], ...] = Field(min_length=1)
    bytes: int = Field(ge=0)
    sha256: str

    @model_validator(mode="after")
    def _rows_add_up(self) -> Self:
        if sum(self.row_groups) != self.rows:
            raise ValueError(f"row groups of {self.path} hold {sum(self.row_groups)} rows, not {self.rows}")
        return self


class SplitDescription(Described):
    """The files of a split, in row order."""

    rows: int
    files: tuple[PartDescription, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _rows_add_up(self) -> Self:
        if sum(part.rows for part in self.files) != self.rows:
            raise ValueError(f"files hold {sum(part.rows for part in self.files)} rows, not {self.rows}")
        if len({part.path for part in self.files}) < len(self.files):
            raise ValueError("a file is named twice, whose rows would count twice")
        return self


class Subject(WithAdditions):
    """What a data set is, before its files are written.

    With ``more_inputs`` a model reads several tensors, ``input`` first: by name where ``input`` has one, else by
    position. With ``target`` the targets are no classes. ``id_column`` names the user's column of identifiers.
    """

    name: str
    meaning: str
    input: InputDescription
    more_inputs: tuple[InputDescription, ...] | None = None
    target: TargetDescription | None = None
    id_column: str | None = None
    class_names: tuple[str, ...]
    provenance: Provenance

    @model_validator(mode="after")
    def _classes_are_told_apart(self) -> Self:
        if len(set(self.class_names)) < len(self.class_names) or not all(map(str.strip, self.class_names)):
            twice = [name for name, count in Counter(self.class_names).items() if count > 1 or not name.strip()]
            raise ValueError(f"classes need names of their own, found {twice[0]!r}")
        return self

    @model_validator(mode="after")
    def _columns_are_told_apart(self) -> Self:
        columns = [each.column for each in self.inputs] + [self.target_column]
        columns += [ID_COLUMN] * (self.id_column is not None) + [name for name in [self.input.text_column] if name]
        if len(set(columns)) < len(columns):
            raise ValueError(f"columns need names of their own, found {columns}")
        names = [each.name for each in self.inputs]
        if any(name is not None for name in names) and (None in names or len(set(names)) < len(names)):
            raise ValueError(f"a model's arguments need names of their own, found {names}")
        return self

    @property
    def inputs(self) -> tuple[InputDescription, ...]:
        """All columns of inputs, in the order in which the model reads them."""
        return (self.input, *(self.more_inputs or ()))

    @property
    def row_bytes(self) -> int:
        """Bytes of one example's inputs."""
        return sum(each.row_bytes for each in self.inputs)

    @property
    def target_column(self) -> str:
        """Name of the column of labels or other targets."""
        return LABEL_COLUMN if self.target is None else self.target.column

    def formed(self, arrays: Sequence[Any]) -> Any:
        """Return arrays or tensors, one for each column of inputs, as one of them, a tuple or a dict."""
        if self.input.name is not None:
            return {str(each.name): array for each, array in zip(self.inputs, arrays, strict=True)}
        return arrays[0] if self.more_inputs is None else tuple(arrays)


DECIDING = {"format", "name", "input", "more_inputs", "target", "id_column", "class_names"}
"""What decides the content beside the files."""


class DatasetDescription(Subject):
    """The whole of ``dataset.json``.

    ``made_from`` are digests by part of all that decides its rows, where the reader can tell them without making any.
    """

    format: Literal[1]
    splits: dict[Split, SplitDescription]
    made_from: dict[Split, str] | None = None

    @model_validator(mode="after")
    def _parts_name_folders(self) -> Self:
        wrong = [name for name in self.splits if not _FOLDER.fullmatch(name)]
        if wrong:
            raise ValueError(f"a part's name is that of a folder, found {wrong[0]!r}")
        return self

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of all that decides the content and its row groups, the same at every address."""
        content = self.model_dump(mode="json", include=DECIDING)
        files = {
            split: [[part.sha256, list(part.row_groups)] for part in described.files]
            for split, described in self.splits.items()
        }
        return digest({**content, "splits": files})

    @property
    def meaning_digest(self) -> str:
        """SHA-256 (hex) of all that is said of the data but for where its files lie and which files they came from."""
        said = self.model_dump(mode="json", exclude={"made_from": True, "provenance": {"sources", "reader"}})
        for described in said["splits"].values():
            for part in described["files"]:
                part.pop("path")
        return digest(said)

    def part_fingerprint(self, split: Split) -> str:
        """SHA-256 (hex) of all that decides the content of one part, whatever the data set has beside it."""
        content = self.model_dump(mode="json", include=DECIDING)
        content.pop("name", None)
        files = [[part.sha256, list(part.row_groups)] for part in self.splits[split].files]
        return digest({**content, "files": files})


def read_description(store: Store) -> DatasetDescription:
    """Return the contents of ``dataset.json``; DataError where it is missing or can't be used."""
    if not store.exists(DATASET_JSON):
        raise DataError(
            f"expected a prepared data set with {DATASET_JSON} in {store.describe()}, found none; "
            f"correct the address or prepare it with relatif prepare"
        )
    try:
        return DatasetDescription.model_validate_json(store.read_bytes(DATASET_JSON))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise DataError(
            f"expected a description in format {FORMAT} in {store.describe(DATASET_JSON)}, "
            f"found {place}: {first['msg']}; prepare the data set again"
        ) from error
