"""A user's text as codes of the data's characters.

Axes: L characters of the longest text of the data.
"""

import unicodedata

import numpy as np
from numpy.typing import NDArray

from relatif.pipeline.datasets import surnames
from relatif.pipeline.datasets.description import InputDescription
from relatif.pipeline.datasets.tables.tokens import read_tokenizer
from relatif.schemas.errors import DataError

SHOWN = 40
"""Characters of a text that a message shows."""


def stored_codes(text: str, described: InputDescription) -> NDArray[np.generic]:
    """Return the codes of a text's characters, [L], 0 behind its end.

    Raises DataError for a text that is empty or too long, and for a character that is not in the data's vocabulary.
    """
    vocabulary, (length,) = described.vocabulary or "", described.shape
    if not 0 < len(text) <= length:
        raise DataError(
            f"expected a text of 1 to {length} characters, as long as the data's longest, found {len(text)} in "
            f"{shown(text)}; shorten it"
        )
    unknown = sorted(set(text) - set(vocabulary))
    if unknown:
        raise DataError(
            f"expected characters among {vocabulary!r}, as the data have them, found {' '.join(map(repr, unknown))} in "
            f"{shown(text)}; write it with those"
        )
    codes = np.zeros(length, described.stored)
    codes[: len(text)] = [vocabulary.index(char) + 1 for char in text]
    return codes


def plain_name(name: str) -> tuple[str, tuple[str, ...]]:
    """Return a surname in the letters that are kept of the data's surnames, and what that changed, in sentences.

    Raises DataError where none is left.
    """
    stripped = name.strip()
    plain, notes = surnames.plain_letters(stripped), []
    if not plain:
        raise DataError(f"expected a name with at least one Latin letter, found {shown(name)}; transliterate it")
    without_marks = unicodedata.normalize("NFD", stripped)
    bare = "".join(char for char in without_marks if unicodedata.category(char) != "Mn")
    dropped = sorted({char for char in bare if char not in surnames.VOCABULARY})
    if stripped != name:
        notes.append("spaces around it were dropped")
    if bare != without_marks:
        notes.append("its accents were dropped, as of all surnames")
    if dropped:
        notes.append(f"{' '.join(map(repr, dropped))} were dropped, as of all surnames")
    return plain, tuple([*notes, f"it was read as {plain!r}"] if notes else notes)


def of_a_tokenizer(text: str, address: str, length: int) -> tuple[str, ...]:
    """Return what a tokenizer makes of a text without telling: what it cuts, and the words that it does not know."""
    tokenizer, _, _ = read_tokenizer(address)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    found = tokenizer.encode(text)
    notes = []
    if len(found.ids) > length:
        notes.append(f"it was cut from {len(found.ids)} to {length} tokens, as the data's texts are")
    unknown = getattr(tokenizer.model, "unk_token", None)
    places = [place for token, place in zip(found.tokens, found.offsets, strict=True) if token == unknown]
    words = list(dict.fromkeys(text[start:stop] for start, stop in places))
    if words:
        notes.append(f"the tokenizer does not know {', '.join(map(shown, words[:8]))}{', ...' if words[8:] else ''}")
    return tuple(notes)


def shown(text: str) -> str:
    """Return a text for a message."""
    return repr(text if len(text) <= SHOWN else f"{text[:SHOWN]}...")
