"""The reader of a table's rows, by what its columns hold, and what decides what it makes of them."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from relatif.pipeline.checkpoints.text_models import Limit, length_limit
from relatif.pipeline.datasets.tables.columns import IMAGES, NUMBERS, OWN, TOKENS, Columns
from relatif.pipeline.datasets.tables.own import Own
from relatif.pipeline.datasets.tables.readers import Numbers, Pictures, Rows, Texts
from relatif.pipeline.datasets.tables.reading import Reading
from relatif.pipeline.datasets.tables.token_lists import TokenLists, longest
from relatif.pipeline.datasets.tables.tokens import load_tokenizer
from relatif.schemas.data_config import DataConfig
from relatif.schemas.errors import DataError

Reader = Numbers | Pictures | Texts | TokenLists

TEXT_LENGTH = 128
"""Tokens of a text where nothing else is said."""


@dataclass(frozen=True)
class Chosen:
    """A reader, ``facts`` that decide what it makes of rows, and a ``note`` of what was taken without being set."""

    reader: Reader | Own
    facts: dict[str, str]
    note: str = ""


def choose_reader(columns: Columns, reading: Reading, every: Iterable[Rows]) -> Chosen:
    """Return the reader of ``columns``; ``every`` are the rows of all parts, which are looked at where lists need it.

    Raises DataError for texts without a tokenizer, and for more tokens than the model reads.
    """
    if reading.own is not None:
        facts = {"reader": OWN, "code": reading.own.code, "columns": ", ".join(columns.inputs)}
        return Chosen(Own(reading.own), facts)
    config, targets = reading.config, (*columns.labels, *columns.targets, *filter(None, [columns.per_token]))
    facts = {"reader": columns.reader, "columns": ", ".join(columns.inputs), "targets": ", ".join(targets)}
    if columns.per_token is not None:
        facts["ignore_index"] = str(reading.ignore_index)
    if columns.reader == NUMBERS:
        return Chosen(Numbers(columns.inputs), facts)
    if columns.reader == IMAGES:
        return Chosen(pictures := _pictures(columns, config), facts | {
            "image_size": str(pictures.size), "image_mode": str(config.image_mode)
        })  # fmt: skip
    found = _token_lists(columns, reading, every) if columns.reader == TOKENS else _texts(columns, reading)
    return replace(found, facts=facts | found.facts)


def _pictures(columns: Columns, config: DataConfig) -> Pictures:
    size = (config.image_size, config.image_size) if isinstance(config.image_size, int) else config.image_size
    sides = None if size is None else (int(size[0]), int(size[1]))
    return Pictures(columns.inputs[0], sides, config.image_mode, config.mean, config.std)


def _texts(columns: Columns, reading: Reading) -> Chosen:
    config, model = reading.config, reading.text_model()
    address = config.tokenizer or model.tokenizer
    if address is None:
        raise DataError(
            f"expected a tokenizer for the texts of column {columns.inputs[0]!r}, found none; set data.tokenizer to a "
            f"folder with tokenizer.json, or choose other columns by data.input_columns"
        )
    limit = length_limit(model, address)
    _require_within(config.max_length, limit)
    length = config.max_length or min(TEXT_LENGTH, limit.tokens if limit else TEXT_LENGTH)
    encode, digest, padding = load_tokenizer(address, length, model.padding)
    facts = {"tokenizer": digest, "max_length": str(length)} | ({} if padding is None else {"padding": str(padding)})
    taken = [f"the tokenizer of {address}"] if config.tokenizer is None else []
    if config.max_length is None:
        taken.append(f"at most {length} tokens{f', {limit.told}' if limit and limit.tokens == length else ''}")
    return Chosen(Texts(columns.inputs[0], encode, length, model.words), facts, "; ".join(taken))


def _token_lists(columns: Columns, reading: Reading, every: Iterable[Rows]) -> Chosen:
    config, model = reading.config, reading.text_model()
    limit = length_limit(model, model.tokenizer)
    _require_within(config.max_length, limit)
    length = config.max_length or longest(every, columns.inputs[0])
    if limit is not None and length > limit.tokens:
        raise DataError(
            f"expected lists of at most {limit.tokens} tokens ({limit.told}), found one of {length} in column "
            f"{columns.inputs[0]!r}; set data.max_length, which cuts longer ones"
        )
    facts = {"max_length": str(length), "padding": str(model.padding or 0)}
    note = f"the longest has {length} tokens" if config.max_length is None else ""
    return Chosen(TokenLists(columns.inputs, length, model.padding, model.words), facts, note)


def _require_within(length: int | None, limit: Limit | None) -> None:
    """Raise DataError for a length that is set and longer than the model reads."""
    if length is not None and limit is not None and length > limit.tokens:
        raise DataError(
            f"expected data.max_length of at most {limit.tokens} ({limit.told}), found {length}; lower it, or correct "
            f"that number where the model reads more"
        )
