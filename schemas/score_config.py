"""Settings of the scores."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator

from relatif.schemas.errors import ConfigurationError
from relatif.schemas.methods import DEFAULT_METHODS, in_order
from relatif.schemas.section import Count, Names, Section

MISCLASSIFIED, RANDOM = "misclassified", "random:"

TestRows = Annotated[tuple[Annotated[int, Field(ge=0)] | str, ...], Field(strict=False, min_length=1)] | str


def _known(value: tuple[str, ...]) -> tuple[str, ...]:
    try:
        return in_order(value)
    except ConfigurationError as error:
        raise ValueError(str(error)) from error


MethodNames = Annotated[Names, Field(min_length=1), AfterValidator(_known)]
"""Methods, each once and in the order of METHODS."""


class ScoreConfig(Section):
    """What is scored, and which results are kept."""

    methods: MethodNames = Field(
        DEFAULT_METHODS, description="methods that are scored, by the names in the table of methods"
    )
    top_k: Count = Field(20, lt=2**31, description="how many examples are kept for each test input and method")
    explained_label: Literal["predicted", "true"] | Annotated[int, Field(lt=2**31)] = Field(
        "predicted", description="`predicted`, `true` or a class number: the label of the test gradient"
    )
    measurement: str | None = Field(
        None,
        pattern=r"^(loss|logit|margin|output|[^:\s]+:[^:\s]+)$",
        description="what is explained: `loss`, `logit`, `margin` (log p / (1 - p)), `output` of a regression, or "
        "`module:function` of outputs and targets; by default `loss`, of a regression's prediction `output`",
    )
    test_limit: Count | None = Field(None, description="use only the first rows of the test set")
    test_rows: TestRows | None = Field(
        None,
        description="explain only these: a list of row numbers or of identifiers (`data.id_column`), `misclassified`, "
        "or `random:N`, drawn without replacement and always the same",
    )
    write_scores: bool = Field(False, description="also write the dense influence matrix")
    gradient_store: bool = Field(
        False, description="also keep what explains further inputs without a pass over the training set"
    )
    gradient_store_dtype: Literal["float32", "bfloat16"] = Field(
        "bfloat16",
        description="type of the kept gradients; explanations are exact with either, `bfloat16` takes half the room "
        "and is read faster, `float32` leaves fewer examples to be scored again",
    )
    test_block_rows: Count = Field(10_000, description="test rows that an actor holds at once")
    unit_rows: Count = Field(10_000, description="training rows of a unit of durable work, rounded to whole shards")

    @field_validator("test_rows")
    @classmethod
    def _rows_are_named(cls, value: Any) -> Any:
        drawn = isinstance(value, str) and value.startswith(RANDOM) and value.removeprefix(RANDOM).isdecimal()
        if isinstance(value, str) and value != MISCLASSIFIED and not (drawn and int(value.removeprefix(RANDOM))):
            raise ValueError("expected a list of row numbers or identifiers, 'misclassified' or 'random:N'")
        return value

    @field_validator("explained_label", mode="before")
    @classmethod
    def _label_is_named_or_numbered(cls, value: Any) -> Any:
        # Without quotes TOML's true is a boolean, which as an integer would mean class 1.
        label = "true" if value is True else value
        if label is False or (isinstance(label, int) and label < 0):
            raise ValueError("expected 'predicted', 'true' or a class number from 0")
        return label
