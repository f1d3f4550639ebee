"""Which columns of a table are read, and by which reader: by the settings, else where their types leave no doubt."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from relatif.pipeline.datasets.description import InputDescription, Subject
from relatif.pipeline.datasets.image_columns import FINER, LABEL_COLUMNS
from relatif.pipeline.datasets.tables.reading import Reading
from relatif.pipeline.datasets.tables.rows import kind_of
from relatif.schemas.data_config import DataConfig
from relatif.schemas.errors import DataError

IMAGES, NUMBERS, TEXTS, TOKENS, OWN = "images", "numbers", "texts", "tokens", "own"
LISTS = "list of whole numbers"
READERS = {
    "image": IMAGES,
    "bytes": IMAGES,
    "number": NUMBERS,
    "truth value": NUMBERS,
    "text": TEXTS,
    LISTS: TOKENS,
}

IDS, MASK, KINDS = "input_ids", "attention_mask", "token_type_ids"
"""Arguments of a model that reads tokens, and the usual names of their columns."""

LABELS = (*LABEL_COLUMNS, "y")
COUNTERS = ("", "id", "index", "unnamed: 0", "__index_level_0__", "idx")
"""Columns, in small letters, that count rows: nobody means them as inputs."""

HUB = b"huggingface"


@dataclass(frozen=True)
class Columns:
    """Names of the columns by what they are read as; ``reader`` says how the inputs are.

    ``per_token`` is the column with a target for each token, the first of the inputs where these are their own.
    """

    reader: str
    inputs: tuple[str, ...]
    labels: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    id: str | None = None
    split: str | None = None
    is_class: bool = False
    """Whether the one label is a class; a list of columns, even of one, are labels of which each is 0 or 1."""
    per_token: str | None = None


def number_columns(
    facts: Mapping[str, str] | None, count: int, chosen: Sequence[str] | None = None
) -> tuple[str, ...] | None:
    """Return the names of the ``count`` columns of numbers that inputs are, None where these can't be told.

    ``facts`` are what a prepared data set keeps of its reader: names that were joined by commas, which names may have
    themselves. ``chosen`` are the columns that the settings name.
    """
    kept = tuple(facts["columns"].split(", ")) if facts and facts["reader"] == NUMBERS else ()
    return next((tuple(names) for names in (kept, chosen or ()) if len(names) == count), None)


def choose_columns(schema: pa.Schema, reading: Reading, where: str) -> Columns:
    """Return which columns are read; DataError, with the candidates, where that is not clear."""
    config = reading.config
    given = (
        *(config.input_columns or ()),
        *config.label_columns,
        *(config.target_columns or ()),
        *(name for name in (config.id_column, config.split_column) if name is not None),
    )
    for name in given:
        if name not in schema.names:
            raise DataError(
                f"expected a column {name!r} in {where}, found {_listed(schema, schema.names)}; correct the setting"
            )
    labels = config.label_columns
    if reading.own is not None:
        return Columns(OWN, config.input_columns or (), labels, (), config.id_column, config.split_column)
    is_class = not config.target_columns and not isinstance(config.label_column, tuple)
    if not labels and not config.target_columns:
        labels = _own_tokens(schema, config) or (_label(schema, where),)
    apart = {*labels, *(config.target_columns or ()), config.id_column, config.split_column}
    per_token = labels[0] if is_class and _is_per_token(schema, config, labels[0]) else None
    if per_token is not None and (per_token == IDS or kind_of(schema.field(per_token).type) != LISTS):
        apart -= {per_token}
    inputs = config.input_columns or _inputs(schema, [name for name in schema.names if name not in apart], where)
    reader, inputs = _read_as(schema, inputs, where)
    targets, more = config.target_columns or (), (config.id_column, config.split_column)
    if per_token is None:
        return Columns(reader, inputs, labels, targets, *more, is_class)
    if reader != TOKENS and inputs != (per_token,):
        raise DataError(
            f"expected lists of tokens beside the lists of targets in column {per_token!r}, found "
            f"{_listed(schema, inputs)} in {where}; name the column of tokens by data.input_columns"
        )
    return Columns(reader, inputs, (), targets, *more, per_token=per_token)


def _is_per_token(schema: pa.Schema, config: DataConfig, label: str) -> bool:
    """Return whether a column of labels has one for each token: a list, or the texts that are read themselves."""
    kind, inputs = kind_of(schema.field(label).type), config.input_columns or _own_tokens(schema, config)
    return kind == LISTS or (kind == "text" and inputs == (label,))


def _own_tokens(schema: pa.Schema, config: DataConfig) -> tuple[str, ...] | None:
    """Return the column of tokens, or of texts, of a table that has nothing else: a language model's targets."""
    left = [name for name in schema.names if name not in (config.id_column, config.split_column)]
    kinds = {name: kind_of(schema.field(name).type) for name in left}
    if set(left) <= {IDS, MASK, KINDS} and IDS in left and set(kinds.values()) == {LISTS}:
        return (IDS,)
    return tuple(left) if list(kinds.values()) == ["text"] else None


def _read_as(schema: pa.Schema, inputs: Sequence[str], where: str) -> tuple[str, tuple[str, ...]]:
    """Return by which reader the inputs are read, and their names, the one of tokens first."""
    kinds = {READERS.get(kind_of(schema.field(name).type)) for name in inputs}
    (reader,) = kinds if len(kinds) == 1 else (None,)
    main = [name for name in inputs if reader != TOKENS or name not in (MASK, KINDS)]
    if reader is None or (reader != NUMBERS and len(main) != 1):
        raise DataError(
            f"expected one column of images, one of texts, one of tokens (with {MASK} and {KINDS}), or columns of "
            f"numbers as inputs, found {_listed(schema, inputs)} in {where}; choose by data.input_columns, or give the "
            f"Task a read of your own (docs/tasks.md)"
        )
    return reader, (*main, *(name for name in inputs if name not in main))


def told(subject: Subject, columns: Columns, rows: Mapping[str, int], note: str) -> Iterator[str]:
    """Yield how a table is read, in a line, and whether rows have no label.

    ``rows`` are the numbers by part, ``note`` tells what was taken for it without being set.
    """
    shapes = ", ".join(_shown(each) for each in subject.inputs)
    named = f" of {', '.join(columns.inputs[:6])}{', ...' if len(columns.inputs) > 6 else ''}" if columns.inputs else ""
    if subject.target is None:
        names = subject.class_names
        what = f"classes {', '.join(names[:8])}{', ...' if len(names) > 8 else ''} (0 to {len(names) - 1})"
    else:
        shown = [", ".join(subject.target.names or ()), subject.target.dtype, str(list(subject.target.shape))]
        what = f"targets {' '.join(filter(None, shown))}"
    counts = ", ".join(f"{name} {count:,}" for name, count in rows.items())
    yield f"table: {counts} rows; {columns.reader}{named} as {shapes}; {what}{note and f'; {note}'}"
    if subject.provenance.unlabelled:
        yield f"table: {subject.provenance.unlabelled} rows have no label; what the model predicts can be explained"


def _shown(described: InputDescription) -> str:
    return f"{described.name + ' ' if described.name else ''}{described.dtype} {list(described.shape)}"


def hub_names(schema: pa.Schema, column: str) -> tuple[str, ...] | None:
    """Return the names of a ``ClassLabel`` column in the metadata of a Hugging Face export, None where it has none."""
    try:
        feature = json.loads((schema.metadata or {})[HUB])["info"]["features"][column]
        names = feature.get("names")
    except (ValueError, LookupError, TypeError, AttributeError):
        return None
    return tuple(map(str, names)) if isinstance(names, list) and names else None


def _label(schema: pa.Schema, where: str) -> str:
    there = [name for name in schema.names if name in LABELS]
    finer = FINER.get(tuple(there))
    if len(there) != 1 and finer is None:
        raise DataError(
            f"expected one column of labels ({', '.join(LABELS)}) in {where}, found {' and '.join(there) or 'none'} "
            f"among {_listed(schema, schema.names)}; name it by data.label_column (a language model's own tokens "
            f"by the column that it reads), or numbers to predict by data.target_columns"
        )
    return finer or there[0]


def _inputs(schema: pa.Schema, left: Sequence[str], where: str) -> tuple[str, ...]:
    """Return the inputs where nothing was chosen: the one image column, else all columns of numbers, else one text."""
    images = [name for name in left if kind_of(schema.field(name).type) == "image"]
    tokens = [name for name in (IDS, MASK, KINDS) if name in left and kind_of(schema.field(name).type) == LISTS]
    if len(images) == 1 or (not images and IDS in tokens):
        return tuple(images or tokens)
    doubtful = [name for name in left if name in LABELS or name.lower() in COUNTERS]
    kinds = {READERS.get(kind_of(schema.field(name).type)) for name in left}
    if not left or doubtful or len(kinds) > 1:
        reason = f" ({', '.join(doubtful)} may be none)" if doubtful else ""
        raise DataError(
            f"expected to tell the inputs by their types in {where}, found {_listed(schema, left)}{reason}; name them "
            f"by data.input_columns"
        )
    return tuple(left)


def _listed(schema: pa.Schema, names: Sequence[str]) -> str:
    shown = ", ".join(f"{name} ({kind_of(schema.field(name).type)})" for name in names[:12])
    return (" ".join(shown.split()) or "no column") + (f" and {len(names) - 12} more" if len(names) > 12 else "")
