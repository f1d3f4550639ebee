"""Settings of the data."""

from pydantic import Field

from relatif.schemas.section import Count, Section, Seed


class DataConfig(Section):
    """Where the examples come from and how they are cut into shards."""

    source: str = Field(description="folder or URL of prepared shards, or of a published format")
    label_column: str | None = Field(
        None, description="column of labels where published files have several; by default the finer of two"
    )
    train_limit: Count | None = Field(None, description="use only the first rows of the training set")
    shard_rows: Count = Field(2000, description="rows of a shard, rounded to whole row groups")
    merge_classes: Count = Field(1, description="so many consecutive classes become one: `label // merge_classes`")
    flip_share: float = Field(
        0.0, ge=0, lt=1, description="share of training labels that become another class, each drawn by its row"
    )
    flip_seed: Seed = Field(0, description="decides which labels are flipped, and to what class")
