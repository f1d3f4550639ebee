"""Settings of the data."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from relatif.schemas.section import LARGEST_LIST, Count, Names, Section, Seed

Side = Annotated[int, Field(ge=1, le=16384)]
Numbers = Annotated[tuple[float, ...], Field(strict=False, min_length=1, max_length=3)]


class DataConfig(Section):
    """Where the examples come from and how they are cut into shards."""

    source: str = Field(
        description="folder or URL: Parquet, CSV or JSON Lines (a file too), pictures in folders by class, prepared "
        "shards, or a published format"
    )
    train: str | None = Field(None, min_length=1, description="name of the part that is trained on, else `train`")
    test: str | None = Field(None, min_length=1, description="name of the part that is explained, else `test`")
    scored: str | None = Field(
        None,
        min_length=1,
        description="name of another part that is scored in place of the training set: candidates never trained on",
    )
    split_column: str | None = Field(None, description="column of a single table that names each row's part")
    hold_out: float | None = Field(
        None, gt=0, lt=1, description="share of each class that becomes the test set, where there is none; drawn by row"
    )
    input_columns: Names | None = Field(None, min_length=1, description="columns of a table that the model reads")
    label_column: str | Names | None = Field(
        None,
        description="column of labels; a list of columns of 0 and 1 for several labels; a column of lists for a "
        "target of each token, the input column itself for a language model's own tokens",
    )
    target_columns: Names | None = Field(None, min_length=1, description="columns of numbers that are predicted")
    class_names: Names | None = Field(
        None,
        min_length=2,
        description="labels in the order of the model's outputs; by default the data's, the checkpoint's, or sorted",
    )
    id_column: str | None = Field(
        None, description="column of your own identifiers: `train_id` and `test_id` of the tables"
    )
    image_size: Annotated[tuple[Side, ...], Field(strict=False)] | Side | None = Field(
        None, description="pictures are resized to this many rows and columns, such as 224 or [192, 256]"
    )
    image_mode: Literal["L", "RGB"] | None = Field(None, description="pictures are converted to grey `L` or `RGB`")
    mean: Numbers | None = Field(
        None, description="of each channel: pictures are read as `(pixel / 255 - mean) / std`, float32"
    )
    std: Numbers | None = Field(None, description="standard deviation of each channel, beside `data.mean`")
    tokenizer: str | None = Field(
        None,
        description="folder or URL with `tokenizer.json`, or that file, for a column of texts; by default that in the "
        "folder `model.checkpoint` with `task = hugging_face`",
    )
    max_length: Annotated[int, Field(ge=1, le=LARGEST_LIST)] | None = Field(
        None,
        description="tokens of a text or list: longer ones are cut, others padded; by default 128 of a text, or "
        "fewer where a model folder says so, and as many as the longest list has",
    )
    train_limit: Count | None = Field(None, description="use only the first rows of the training set")
    shard_rows: Count = Field(2000, description="rows of a shard, rounded to whole row groups")
    merge_classes: Count = Field(1, description="so many consecutive classes become one: `label // merge_classes`")
    flip_share: float = Field(
        0.0, ge=0, lt=1, description="share of training labels that become another class, each drawn by its row"
    )
    flip_seed: Seed = Field(0, description="decides which labels are flipped, and to what class")

    @model_validator(mode="after")
    def _settings_agree(self) -> Self:
        if isinstance(self.image_size, tuple) and len(self.image_size) != 2:
            raise ValueError(f"data.image_size is one number, or rows and columns, found {list(self.image_size)}")
        if (self.mean is None) != (self.std is None) or len(self.mean or ()) != len(self.std or ()):
            raise ValueError("data.mean and data.std go together, one number for each channel of both")
        if self.label_column is not None and self.target_columns is not None:
            raise ValueError("data.label_column and data.target_columns are two kinds of targets: give one of them")
        if self.split_column is not None and self.hold_out is not None:
            raise ValueError("data.split_column and data.hold_out both make a test set: give one of them")
        return self

    @property
    def label_columns(self) -> tuple[str, ...]:
        """The columns of labels that are named."""
        if self.label_column is None:
            return ()
        return (self.label_column,) if isinstance(self.label_column, str) else self.label_column

    @property
    def part_names(self) -> tuple[str, str]:
        """Names of the parts that are trained on and explained."""
        return self.train or "train", self.test or "test"
