"""The description of a prepared data set, ``dataset.json``: written last, so its presence proves the files."""

import math
from collections import Counter
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from relatif.pipeline.storage.store import Store
from relatif.schemas.digests import digest
from relatif.schemas.errors import DataError
from relatif.schemas.manifest import FileReceipt

DATASET_JSON = "dataset.json"
FORMAT = 1
"""Version of the layout; only additions keep it."""

LABEL_COLUMN = "label"

LARGEST_ROW_BYTES = 2**31 - 1
"""What Arrow's rows of one length hold."""

Split = Literal["train", "test"]

STORED: dict[str, np.dtype[Any]] = {"uint8": np.dtype(np.uint8), "float32": np.dtype("<f4")}
"""How values of each type are stored: float32 little-endian, on any machine."""


class _Described(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _WithAdditions(_Described):
    """Optional fields are omitted when None, so that files from before a field existed keep their bytes."""

    @model_serializer(mode="wrap")
    def _said(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in handler(self).items() if value is not None}


class InputDescription(_WithAdditions):
    """The column of inputs: each row holds the bytes of ``shape`` values of ``dtype`` (see STORED), in C order.

    ``axes`` names the axes of ``shape``: channel, row, column for images (channels red, green, blue, or one of grey).
    With ``vocabulary`` the values are codes of characters: c stands for ``vocabulary[c - 1]``, 0 for padding.
    ``text_column`` names a column with the text of each input before it was encoded.
    """

    column: str
    dtype: Literal["uint8", "float32"]
    shape: tuple[Annotated[int, Field(ge=1)], ...] = Field(min_length=1)
    axes: tuple[str, ...] | None = None
    vocabulary: str | None = None
    text_column: str | None = None

    @model_validator(mode="after")
    def _fits_a_row(self) -> Self:
        if self.row_bytes > LARGEST_ROW_BYTES:
            raise ValueError(f"an input of shape {self.shape} has {self.row_bytes} bytes, more than a row may have")
        return self

    @property
    def stored(self) -> np.dtype[Any]:
        """Type of a value as it is stored."""
        return STORED[self.dtype]

    @property
    def row_bytes(self) -> int:
        """Bytes of one input."""
        return math.prod(self.shape) * self.stored.itemsize


class PartDescription(_Described):
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


class SplitDescription(_Described):
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


class HoldOut(_WithAdditions):
    """How a test set was cut from data without one: this share of each class, drawn at random by ``seed``.

    Inputs named in ``names`` are always in the test set, as part of the share of their class.
    """

    share: float = Field(gt=0, lt=1)
    seed: int
    names: tuple[str, ...] | None = Field(None, min_length=1)


class Provenance(_WithAdditions):
    """Whose data it is, under which licence, and from which published files it was made (``path`` is a file's name).

    ``label_column`` is the column of labels where it was chosen among several; ``unlabelled`` is the number of test
    inputs that have no label.
    """

    origin: str
    licence: str
    licence_url: str
    sources: tuple[FileReceipt, ...]
    hold_out: HoldOut | None = None
    label_column: str | None = None
    unlabelled: int | None = Field(None, ge=1)


class Subject(_Described):
    """What a data set is, before its files are written."""

    name: str
    meaning: str
    input: InputDescription
    class_names: tuple[str, ...]
    provenance: Provenance

    @model_validator(mode="after")
    def _classes_are_told_apart(self) -> Self:
        if len(set(self.class_names)) < len(self.class_names) or not all(map(str.strip, self.class_names)):
            twice = [name for name, count in Counter(self.class_names).items() if count > 1 or not name.strip()]
            raise ValueError(f"classes need names of their own, found {twice[0]!r}")
        return self


class DatasetDescription(Subject):
    """The whole of ``dataset.json``."""

    format: Literal[1]
    splits: dict[Split, SplitDescription]

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of all that decides the content and its row groups, the same at every address."""
        content = self.model_dump(mode="json", include={"format", "name", "input", "class_names"})
        files = {
            split: [[part.sha256, list(part.row_groups)] for part in described.files]
            for split, described in self.splits.items()
        }
        return digest({**content, "splits": files})


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
