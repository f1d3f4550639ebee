"""An input of the user's own in the form in which a run's data store theirs: a picture, a text, a row or tensors.

Whatever is done to it is told in a note, and what can't be read as the data were is refused.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import singledispatch
from typing import Any

import torch
from PIL import Image, ImageOps
from torch import Tensor

from relatif.pipeline.datasets import surnames
from relatif.pipeline.datasets.description import InputDescription
from relatif.pipeline.datasets.given.pictures import Picture, ground, inverted, stored_picture, takes_picture
from relatif.pipeline.datasets.given.rows import columns_of, read_row, unknown_target
from relatif.pipeline.datasets.given.tensors import stored_tensors, tensor_of
from relatif.pipeline.datasets.given.texts import plain_name, shown, stored_codes
from relatif.pipeline.datasets.shards import StoredExamples, read_shard, read_shard_texts
from relatif.pipeline.datasets.tables.columns import OWN, TEXTS
from relatif.pipeline.datasets.tables.readers import upright
from relatif.pipeline.explaining.query import Query
from relatif.pipeline.inputs import Inputs, named
from relatif.pipeline.runs.reading import reading_of
from relatif.pipeline.runs.run import Run
from relatif.pipeline.storage.store import open_store
from relatif.schemas.errors import ConfigurationError, DataError

PICTURES, ROWS = (".png", ".jpg", ".jpeg"), (".json", ".jsonl")
"""Endings of the files that hold a picture, and of those that hold a row."""

LOOKED_AT = 1000
"""Training pictures by whose edges it is told whether their ground is light or dark."""


@dataclass(frozen=True, eq=False)
class Given:
    """One input as the data store it, [1, ...], with its target, [1, ...], UNLABELLED or NaN where it is not known.

    ``told`` names it, ``notes`` say in sentences what was done to it, ``text`` and ``row`` are what the user gave.
    """

    stored: Inputs
    target: Tensor
    told: str
    notes: tuple[str, ...] = ()
    text: str | None = None
    row: Mapping[str, Any] | None = None

    @property
    def query(self) -> Query:
        """Return it as an input to explain."""
        return Query(StoredExamples(self.stored, self.target, 0), self.told, notes=self.notes, text=self.text)


@singledispatch
def given(value: Any, run: Run, *, invert: bool | None = None) -> Given:
    """Return what a value of Python is for a run: a str, a dict (a row), a picture of pillow, a tensor, or a tuple.

    ``invert`` is for pictures, see ``given_picture``. Raises ConfigurationError for a value of another type, DataError
    for what the run's data could not hold.
    """
    del run, invert
    raise ConfigurationError(
        f"expected a tensor, a picture of pillow, a str, a dict or the number of a test row to explain, found "
        f"{type(value).__name__}; give one of these"
    )


def given_file(run: Run, address: str, *, invert: bool | None = None) -> Given:
    """Return the picture in a PNG or JPEG file, or the one row in a ``.json`` or ``.jsonl`` file, by path or URL.

    Raises ConfigurationError for another kind of file, DataError where it is missing or damaged, and as ``given``.
    """
    name = address.rpartition("/")[2] or address
    ending = f".{name.rpartition('.')[2].lower()}"
    if ending not in (*PICTURES, *ROWS):
        raise ConfigurationError(
            f"expected a picture ({', '.join(PICTURES)}) or a row ({', '.join(ROWS)}) as --input, found {name!r}; give "
            f"a text by --text"
        )
    data = open_store(address).find_bytes("")
    if data is None:
        raise DataError(f"expected a file at {address}, found none; correct the path")
    if ending in ROWS:
        return replace(given_row(run, parsed_row(data, address)), told=f"the row in {name}")
    return replace(given_picture(run, upright(data, address), invert=invert), told=f"the file {name}")


@given.register
def _picture(value: Image.Image, run: Run, *, invert: bool | None = None) -> Given:
    return given_picture(run, ImageOps.exif_transpose(value), invert=invert)


def given_picture(run: Run, image: Image.Image, *, invert: bool | None = None) -> Given:
    """Return an upright picture of any size and mode: converted and resized as the data's pictures are.

    ``invert`` exchanges light and dark of grey pictures. By default that is done where the picture's edge is light and
    the edges of the data's pictures are dark, or the other way round. A note says so. Raises DataError where the data
    are no pictures.
    """
    described, facts = run.dataset.description.input, run.dataset.description.provenance.reader or {}
    if len(run.dataset.description.inputs) > 1 or not takes_picture(described):
        raise DataError(f"expected {_wanted(run)}, found a picture; give that")
    as_data = facts.get("image_mode", str(None)) != str(None)
    picture = stored_picture(image, described, as_data=as_data)
    picture = _exchanged(run, picture, described, invert)
    stored = stored_tensors(torch.tensor(picture.pixels), run.dataset.description)
    return Given(stored, _unknown(run), "the picture", picture.notes)


def _exchanged(run: Run, picture: Picture, described: InputDescription, invert: bool | None) -> Picture:
    is_grey = len(described.shape) == 2 or described.shape[0] == 1
    if invert and not is_grey:
        raise ConfigurationError(
            "expected grey pictures to exchange light and dark, found data in colour; leave it out"
        )
    if invert is not None or not is_grey:
        return inverted(picture, ", as asked") if invert else picture
    own = ground(picture.pixels.reshape(1, *described.shape[-2:]))
    theirs = own and ground(_first_pictures(run, described))
    if own is None or theirs is None or own == theirs:
        return picture
    return inverted(picture, f": its ground is {own}, that of the data's pictures {theirs}")


def _first_pictures(run: Run, described: InputDescription) -> Any:
    """Return the first training pictures as they are stored, uint8 [N, rows, columns]."""
    limit = min(LOOKED_AT, run.train_rows)
    shard = run.dataset.shards("train", rows=LOOKED_AT, limit=limit)[0]
    values = read_shard(run.data, run.dataset, shard).inputs
    assert isinstance(values, Tensor)
    if described.mean is not None and described.std is not None:
        values = ((values * described.std[0] + described.mean[0]) * 255).round()
    return values.to(torch.uint8).reshape(-1, *described.shape[-2:]).numpy()


@given.register
def _text(value: str, run: Run, *, invert: bool | None = None) -> Given:
    _refuse_exchange(invert)
    return given_text(run, value)


def given_text(run: Run, text: str) -> Given:
    """Return a text: in the data's characters, by the data's tokenizer, or as the one column of the task's own reader.

    Raises DataError where the data are no texts, and for a text that is empty, too long or has other characters.
    """
    described = run.dataset.description
    told = f"the text {shown(text)}"
    if described.input.vocabulary is not None and len(described.inputs) == 1:
        plain, notes = plain_name(text) if described.name == surnames.NAME else (text, ())
        codes = torch.tensor(stored_codes(plain, described.input))
        return Given(stored_tensors(codes, described), _unknown(run), told, notes, text=text)
    reading = reading_of(run.config, None)
    columns = columns_of(described, reading) if described.provenance.reader else None
    if columns is None or columns.reader not in (TEXTS, OWN) or len(columns.inputs) != 1:
        raise DataError(f"expected {_wanted(run)}, found a text; give that")
    empty = () if text.strip() else (_empty(run, text),)
    found = given_row(run, {columns.inputs[0]: text})
    return replace(found, told=told, text=text, notes=(*empty, *found.notes))


def _empty(run: Run, text: str) -> str:
    """Return what is noted of a text without characters; DataError where the training set is known to have none."""
    if run.dataset.description.input.text_column is None:
        return "the text is empty"
    # Stops at the first of them: only a data set without any is read to its end.
    shards = run.dataset.shards("train", rows=run.config.data.shard_rows)
    if any(not each.strip() for shard in shards for each in read_shard_texts(run.data, run.dataset, shard)):
        return "the text is empty, as some of the data's are"
    raise DataError(f"expected a text with characters, as all of the data's have, found {shown(text)}; give one")


@given.register
def _mapping(value: Mapping, run: Run, *, invert: bool | None = None) -> Given:  # type: ignore[type-arg]
    _refuse_exchange(invert)
    if value and all(isinstance(each, Tensor) for each in value.values()):
        return given_tensors(run, dict(value))
    return given_row(run, value)


def given_row(run: Run, row: Mapping[str, Any]) -> Given:
    """Return a row by the names of its columns: of the table that the data were prepared from, else of the inputs.

    A label or target that the row tells is known, so that it can be explained as the true one. Raises DataError, naming
    the column, for what is missing or can't be read.
    """
    described, where = run.dataset.description, "the given row"
    if described.provenance.reader is not None:
        found = read_row(row, described, reading_of(run.config, None), where)
        target = found.targets if described.target is not None else _merged(run, found.targets)
        return Given(found.inputs, target, where, found.notes, found.text, row)
    text = described.input.text_column
    if text is not None and text in row:
        return given_text(run, str(row[text]))
    missing = [each.column for each in described.inputs if each.column not in row]
    if missing:
        raise DataError(
            f"expected {_wanted(run)}, or a row of {', '.join(each.column for each in described.inputs)}, found no "
            f"{missing[0]!r} among {', '.join(map(str, row)) or 'none'}; give that"
        )
    tensors = [tensor_of(row[each.column], each) for each in described.inputs]
    return replace(given_tensors(run, described.formed(tensors)), told=where, row=row)


@given.register(Tensor)
@given.register(tuple)
def _tensors(value: Inputs, run: Run, *, invert: bool | None = None) -> Given:
    _refuse_exchange(invert)
    return given_tensors(run, value)


def given_tensors(run: Run, tensors: Inputs) -> Given:
    """Return tensors as the data store an input, without or with a first axis of 1; DataError for any others."""
    shapes = ", ".join(f"{name} {list(tensor.shape)}".strip() for name, tensor in named(tensors).items())
    return Given(stored_tensors(tensors, run.dataset.description), _unknown(run), f"the tensor {shapes}")


def parsed_row(data: bytes | str, where: str) -> Mapping[str, Any]:
    """Return the one row of a text of JSON or JSON Lines; DataError where it is no object, or several."""
    try:
        text = data if isinstance(data, str) else data.decode("utf-8-sig")
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(
            f'expected one row as a JSON object, such as {{"age": 41}}, in {where}, found '
            f"{' '.join(str(error).split())}; correct it, and give one row"
        ) from error
    rows = found if isinstance(found, list) else [found]
    if len(rows) != 1 or not isinstance(rows[0], dict):
        told = f"{len(rows)} of them" if len(rows) != 1 else type(rows[0]).__name__
        raise DataError(f"expected one row as a JSON object in {where}, found {told}; give one row with its columns")
    return rows[0]


def label_of(run: Run, text: str) -> str | int:
    """Return the label that a word names: ``predicted``, ``true``, a class by its name, else by its number.

    Raises ConfigurationError for anything else.
    """
    names = run.dataset.class_names
    targets = run.dataset.description.target
    outputs = names or (targets.names if targets is not None and targets.names is not None else ())
    if text in ("predicted", "true"):
        return text
    if text in outputs:
        return outputs.index(text)
    if text.isdecimal() and (int(text) < len(names) or not names):
        return int(text)
    known = ", ".join(outputs[:20]) + (", ..." if len(outputs) > 20 else "")
    raise ConfigurationError(
        f"expected a label predicted, true{f', {known}' if known else ''} or a number"
        f"{f' from 0 to {len(names) - 1}' if names else ''}, found {text!r}; name one of these"
    )


def _merged(run: Run, labels: Tensor) -> Tensor:
    """Return class numbers as the run uses them; UNLABELLED stays, as rounding down keeps it."""
    return run.dataset.labelling.seen(labels, "test", first_row=0, class_count=len(run.dataset.class_names))


def _unknown(run: Run) -> Tensor:
    return unknown_target(run.dataset.description.target, reading_of(run.config, None).ignore_index)


def _refuse_exchange(invert: bool | None) -> None:
    if invert is not None:
        raise ConfigurationError("expected a picture to exchange light and dark of, found none; leave invert out")


def _wanted(run: Run) -> str:
    """Return in words what an input of the run's data is."""
    described = run.dataset.description
    facts = described.provenance.reader
    if takes_picture(described.input) and len(described.inputs) == 1:
        return "a picture"
    if described.input.vocabulary is not None or (facts or {}).get("reader") == TEXTS:
        return "a text"
    if facts is not None:
        return f"a row of the columns {facts['columns'] or 'that the task reads'}"
    return f"a tensor {', '.join(f'{each.dtype} {list(each.shape)}' for each in described.inputs)}"
