"""Columns of lists of whole numbers as the tokens of sequences: padded, cut, with their mask and their targets.

Axes: N rows of a batch, T tokens.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from relatif.pipeline.datasets.description import InputDescription
from relatif.pipeline.datasets.tables.columns import IDS, MASK
from relatif.pipeline.datasets.tables.readers import Arrays, Rows
from relatif.schemas.errors import DataError

Whole = NDArray[np.int64]

UNKNOWN = -1
"""Target of a token that nobody knows: what the model predicts can be explained."""


@dataclass(frozen=True)
class Lists:
    """Lists of whole numbers, one for each of N rows: their numbers one behind the other, and their lengths [N]."""

    numbers: Whole
    lengths: Whole

    def padded(self, length: int, fill: int) -> Whole:
        """Return the lists cut and padded to a length, int64 [N, length]."""
        found = np.full((len(self.lengths), length), fill, np.int64)
        row = np.repeat(np.arange(len(self.lengths)), self.lengths)
        place = np.arange(len(self.numbers)) - np.repeat(self.lengths.cumsum() - self.lengths, self.lengths)
        kept = place < length
        found[row[kept], place[kept]] = self.numbers[kept]
        return found

    def row_of(self, wrong: NDArray[np.bool_]) -> int:
        """Return the row of the first number that is ``wrong``."""
        return int(np.repeat(np.arange(len(self.lengths)), self.lengths)[wrong.argmax()])


def lists_of(rows: Rows, name: str) -> Lists:
    """Return a column of lists; DataError, naming the row, for one that is none or holds none in a number's place."""
    column = rows.column(name)
    if column.null_count:
        row = column.is_null().to_pylist().index(True)
        raise DataError(
            f"expected a list in column {name!r} in {rows.place(row)}, found none; fill it in or drop the row"
        )
    lengths = pc.list_value_length(column).to_numpy(zero_copy_only=False).astype(np.int64)
    flat = pc.list_flatten(column)
    if flat.null_count:
        row = Lists(np.zeros(len(flat), np.int64), lengths).row_of(flat.is_null().to_numpy(zero_copy_only=False))
        raise DataError(
            f"expected whole numbers alone in the list of column {name!r} in {rows.place(row)}, found none in a "
            f"number's place; correct the row or drop it"
        )
    try:
        return Lists(pc.cast(flat, pa.int64()).to_numpy(zero_copy_only=False), lengths)
    except pa.ArrowException as error:
        raise DataError(
            f"expected whole numbers of 64 bits in column {name!r} of {rows.origin}, found {error}; correct them"
        ) from error


def longest(batches: Iterable[Rows], name: str) -> int:
    """Return the length of the longest list of a column, at least 1."""
    return max((int(pc.max(pc.list_value_length(rows.column(name))).as_py() or 1) for rows in batches), default=1)


@dataclass(frozen=True)
class TokenLists:
    """Columns of lists as ``input_ids``, ``attention_mask`` and what else is named, int64 [N, length] each.

    The first of ``columns`` holds the tokens; the others, lists of the same lengths, keep their names. A mask is made
    where none is among them. ``padding`` is the model's token behind a list's end, None where it is not known,
    ``words`` the size of the vocabulary.
    """

    columns: tuple[str, ...]
    length: int
    padding: int | None = None
    words: int | None = None

    def described(self, first: Rows) -> tuple[InputDescription, ...]:
        """Return what is stored."""
        names = (IDS, MASK, *(name for name in self.columns[1:] if name != MASK))
        return tuple(InputDescription(column=name, dtype="int64", shape=(self.length,), name=name) for name in names)

    def read(self, rows: Rows) -> tuple[Arrays, tuple[str, ...] | None]:
        """Return the inputs of a batch; DataError, naming the row, for lists that are no sequences of tokens."""
        name, *others = self.columns
        tokens = lists_of(rows, name)
        if not tokens.lengths.all():
            row = int((tokens.lengths == 0).argmax())
            raise DataError(
                f"expected at least 1 token in column {name!r} in {rows.place(row)}, found none; drop the row"
            )
        require_words(tokens, name, self.words, rows)
        more = {each: beside(rows, each, tokens, name) for each in others}
        if MASK not in more:
            self._require_no_padding(tokens, rows)
        mask = more.pop(MASK, Lists(np.ones_like(tokens.numbers), tokens.lengths))
        if (wrong := (mask.numbers != 0) & (mask.numbers != 1)).any():
            raise DataError(
                f"expected 0 and 1 in column {MASK!r} in {rows.place(mask.row_of(wrong))}, found "
                f"{mask.numbers[wrong][0]}; correct it, or leave the column out by data.input_columns"
            )
        arrays = (tokens.padded(self.length, self.padding or 0), mask.padded(self.length, 0))
        return (*arrays, *(each.padded(self.length, 0) for each in more.values())), None

    def _require_no_padding(self, tokens: Lists, rows: Rows) -> None:
        """Raise DataError for a list that is padded already where no column says which of its tokens count."""
        ends = tokens.lengths.cumsum()
        last = tokens.numbers[ends - 1] == self.padding
        padded = last & (tokens.lengths > 1) & (tokens.numbers[ends - np.minimum(tokens.lengths, 2)] == self.padding)
        if padded.any():
            raise DataError(
                f"expected a column {MASK!r} beside lists that are padded, found none, and token {self.padding}, the "
                f"model's padding, at the end of the list in {rows.place(int(padded.argmax()))}; give the mask, or "
                f"lists without padding"
            )


def require_words(tokens: Lists, name: str, words: int | None, rows: Rows) -> None:
    """Raise DataError, naming the row, for a number that no word has, of ``words`` (None: of a number not known)."""
    wrong = (tokens.numbers < 0) | (tokens.numbers >= (np.iinfo(np.int64).max if words is None else words))
    if wrong.any():
        most = "" if words is None else f" to {words - 1}, the words of the model"
        raise DataError(
            f"expected tokens from 0{most or ' on'} in column {name!r} in {rows.place(tokens.row_of(wrong))}, found "
            f"{tokens.numbers[wrong][0]}; take the tokenizer of the model, or correct the row"
        )


def beside(rows: Rows, name: str, tokens: Lists, theirs: str) -> Lists:
    """Return a column of lists of the same lengths as ``tokens``, those of column ``theirs``; DataError for others."""
    found = lists_of(rows, name)
    if (apart := found.lengths != tokens.lengths).any():
        row = int(apart.argmax())
        raise DataError(
            f"expected as many numbers in column {name!r} as in {theirs!r}, {tokens.lengths[row]}, in "
            f"{rows.place(row)}, found {found.lengths[row]}; give each token one"
        )
    return found


def token_targets(
    rows: Rows, column: str, inputs: tuple[str, ...], arrays: Arrays, ignored: int, *, required: bool
) -> NDArray[Any]:
    """Return a target for each token, int64 [N, T]: those of a column of lists, or the tokens of ``arrays`` themselves.

    ``arrays`` are tokens and mask as a reader made them. Behind a list's end, and of tokens themselves where the mask
    is 0, the target is ``ignored``. Where targets are not ``required`` a row may have none: each token's is below 0.
    """
    tokens, mask = arrays[:2]
    if column == inputs[0]:
        return np.where(mask != 0, tokens, ignored)
    none = np.zeros(len(tokens), np.bool_) if required else rows.column(column).is_null().to_numpy(zero_copy_only=False)
    found = np.where(mask != 0, UNKNOWN if ignored != UNKNOWN else UNKNOWN - 1, ignored)
    there = Rows(rows.batch.filter(pa.array(~none)), rows.numbers[~none], rows.origin)
    if there.batch.num_rows:
        lists = beside(there, column, lists_of(there, inputs[0]), inputs[0])
        found[~none] = lists.padded(tokens.shape[1], ignored)
    return found
