"""Where a prepared data set comes from: the files it was made of, and how a test set was cut from them."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

from relatif.schemas.manifest import FileReceipt


class Described(BaseModel):
    """A piece of a description, which is not changed and holds nothing that is not said of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class WithAdditions(Described):
    """Optional fields are omitted when None, so that files from before a field existed keep their bytes."""

    @model_serializer(mode="wrap")
    def _said(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in handler(self).items() if value is not None}


class HoldOut(WithAdditions):
    """How a test set was cut from data without one: this share of each class, drawn at random by ``seed``.

    Inputs named in ``names`` are always in the test set, as part of the share of their class.
    """

    share: float = Field(gt=0, lt=1)
    seed: int
    names: tuple[str, ...] | None = Field(None, min_length=1)


class Provenance(WithAdditions):
    """Whose data it is, under which licence, and from which published files it was made (``path`` is a file's name).

    ``label_column`` is the column of labels where it was chosen among several; ``unlabelled`` is the number of test
    inputs that have no label. ``reader`` is what turned a table's rows into examples: its settings, its code's digest.
    """

    origin: str
    licence: str
    licence_url: str
    sources: tuple[FileReceipt, ...]
    hold_out: HoldOut | None = None
    label_column: str | None = None
    unlabelled: int | None = Field(None, ge=1)
    reader: dict[str, str] | None = None
