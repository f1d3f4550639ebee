"""Published formats: which one lies in a folder, and how it becomes a prepared data set."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from relatif.pipeline.datasets.cifar10 import is_cifar10, read_cifar10
from relatif.pipeline.datasets.description import DATASET_JSON, LABEL_COLUMN
from relatif.pipeline.datasets.image_parquet import holds_image_column, is_image_parquet, read_image_parquet
from relatif.pipeline.datasets.mnist import is_mnist, read_mnist
from relatif.pipeline.datasets.preparing import Published, find_description, is_made_of, prepare_once
from relatif.pipeline.datasets.renewing import renewal, renewed
from relatif.pipeline.datasets.shards import PreparedDataset, open_dataset
from relatif.pipeline.datasets.surnames import is_surnames, read_surnames
from relatif.pipeline.datasets.tables.published import is_table, read_table
from relatif.pipeline.datasets.tables.reading import TABLE_SETTINGS, Reading
from relatif.pipeline.datasets.writing import delete_split
from relatif.pipeline.storage.store import Store
from relatif.schemas.errors import ConfigurationError, DataError

PREPARED = "prepared"


@dataclass(frozen=True)
class PublishedFormat:
    """How a format is recognised in a folder, and read; ``read_column`` takes the name of the column of labels too."""

    meaning: str
    recognise: Callable[[Store], bool]
    read: Callable[[Store], Published]
    read_column: Callable[[Store, str], Published] | None = None


FORMATS: Mapping[str, PublishedFormat] = {
    "mnist": PublishedFormat("MNIST's four IDX files, gzipped or plain", is_mnist, read_mnist),
    "cifar10": PublishedFormat(
        "CIFAR-10's python or binary batches, unpacked or in their .tar.gz", is_cifar10, read_cifar10
    ),
    "image_parquet": PublishedFormat(
        "train and test Parquet files of encoded images and labels",
        is_image_parquet,
        read_image_parquet,
        read_image_parquet,
    ),
    "surnames": PublishedFormat(
        "a text file of names for each language, or data.zip of them", is_surnames, read_surnames
    ),
}
"""By name; where a folder holds several, the first is taken."""


def detect(source: Store) -> str | None:
    """Return ``prepared``, the name of the published format that lies in ``source``, or None."""
    if source.exists(DATASET_JSON):
        return PREPARED
    return next((name for name, published in FORMATS.items() if published.recognise(source)), None)


def prepare(source: Store, out: Store, name: str | None = None, *, label_column: str | None = None) -> PreparedDataset:
    """Prepare a published format (default: the one detected) into ``out``; nothing is done if that has been done.

    Raises as ``read_published``, and DataError where ``out`` holds another data set.
    """
    return prepare_once(out, read_published(source, name, label_column=label_column))


def read_published(source: Store, name: str | None = None, *, label_column: str | None = None) -> Published:
    """Read a published format (default: the one detected), labels from ``label_column`` where one is chosen.

    Raises ConfigurationError for an unknown name and for a column of a format without columns, DataError where the
    source is none of the formats or is damaged.
    """
    found = detect(source) if name is None else name
    if found is None or (name is None and found == PREPARED):
        raise DataError(
            f"expected a published format ({_known()}) in {source.describe()}, "
            f"found {'a prepared data set' if found else 'none of them'}; correct the address"
        )
    if found not in FORMATS:
        raise ConfigurationError(f"expected a published format ({_known()}), found {found!r}; use one of these names")
    read, read_column = FORMATS[found].read, FORMATS[found].read_column
    if label_column is None:
        return read(source)
    if read_column is None:
        raise _no_columns(label_column, found)
    return read_column(source, label_column)


def read_source(source: Store, reading: Reading) -> Published:
    """Read a published format, or a table where there is none or the settings ask for what only a table has.

    Raises as ``read_published`` and ``read_table`` do.
    """
    label_column = reading.config.label_columns[0] if reading.config.label_columns else None
    known = detect(source)
    if reading.wants_table or known is None or (known == "image_parquet" and not holds_image_column(source)):
        if known is not None or is_table(source, reading):
            return read_table(source, reading)
        raise DataError(
            f"expected Parquet, CSV or JSON Lines, pictures in folders by class, a prepared data set or a published "
            f"format ({_known()}) in {source.describe()}, found none of them; correct the address"
        )
    return read_published(source, label_column=label_column)


def read_once() -> Callable[[Store, Reading], Published]:
    """Return a ``read_source`` for one source, which is read the first time only: its files are hashed once."""
    found: list[Published] = []

    def read(source: Store, reading: Reading) -> Published:
        if not found:
            found.append(read_source(source, reading))
        return found[0]

    return read


def open_source(
    source: Store,
    out: Store,
    reading: Reading = Reading(),  # noqa: B008
    read: Callable[[Store, Reading], Published] = read_source,
) -> tuple[Store, PreparedDataset]:
    """Return the prepared data set at ``source``, or prepare the published format or table there into ``out`` first.

    The store returned is the one that holds the shards; ``read`` reads what is published. Raises as ``prepare`` and
    ``open_dataset`` do, and DataError, with nothing touched, where results were made of what ``out`` holds and its
    training part would be another.
    """
    if detect(source) != PREPARED:
        return out, _prepared(source, out, read(source, reading), reading)
    dataset = open_dataset(source)
    label_column = reading.config.label_columns[0] if reading.config.label_columns else None
    _refuse_table_settings(source, reading)
    if label_column not in (None, LABEL_COLUMN, dataset.description.provenance.label_column):
        raise _no_columns(label_column, "a prepared data set")
    return source, dataset


def _refuse_table_settings(source: Store, reading: Reading) -> None:
    """Raise ConfigurationError for settings that only a table has, beside a prepared data set."""
    given = [name for name in TABLE_SETTINGS if getattr(reading.config, name) is not None]
    if given:
        raise ConfigurationError(
            f"expected no data.{given[0]} for the prepared data set in {source.describe()}, found it; leave it out, or "
            f"name the table that the data set was prepared from as data.source"
        )


def _prepared(source: Store, out: Store, published: Published, reading: Reading) -> PreparedDataset:
    if reading.begun is not None:
        return renewed(renewal(source, out, published, reading, reading.begun))
    there = find_description(out)
    if there is not None and not is_made_of(there, published):
        # Nothing was made of it: what was prepared of other files or settings gives way.
        out.delete(DATASET_JSON)  # first: without it, what is left proves nothing
        for described in there.splits.values():
            delete_split(out, described)
    return prepare_once(out, published)


def _no_columns(label_column: str, found: str) -> ConfigurationError:
    return ConfigurationError(
        f"expected a format with columns to choose labels from, found {found} and data.label_column = "
        f"{label_column!r}; leave it out"
    )


def _known() -> str:
    return "; ".join(f"{name}: {published.meaning}" for name, published in FORMATS.items())
