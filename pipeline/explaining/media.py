"""What examples of a run look like: pictures, texts and rows, from what its data store.

Axes: N examples, T tokens of a text.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from relatif.pipeline import inputs as batches
from relatif.pipeline.datasets.description import InputDescription, Split
from relatif.pipeline.datasets.given.pictures import takes_picture
from relatif.pipeline.datasets.tables.columns import number_columns
from relatif.pipeline.datasets.tables.tokens import read_tokenizer
from relatif.pipeline.datasets.texts import texts_of_rows
from relatif.pipeline.explaining.chosen_pairs import read_rows
from relatif.pipeline.explaining.parts import token_count
from relatif.pipeline.inputs import Inputs
from relatif.pipeline.runs.reading import reading_of
from relatif.pipeline.runs.run import Run
from relatif.pipeline.showing.shown import Media, cell

Reader = Callable[[Sequence[int]], tuple[Inputs, Tensor]]
"""Returns stored inputs and targets of rows, given in rising order."""

MOST_COLUMNS = 200
"""Numbers of an input that are shown as columns."""


def media_of_rows(run: Run, split: Split, rows: Sequence[int], read: Reader | None = None) -> dict[int, Media]:
    """Return what rows of a part look like, by row; each row group that is needed is read once.

    ``read`` returns rows as they are stored, where they lie nearer than in the data.
    """
    wanted = sorted(set(rows))
    if not wanted:
        return {}
    if read is None:
        stored, _ = read_rows(run.source, run.dataset.shards(split, rows=run.config.data.shard_rows), wanted)
    else:
        stored, _ = read(wanted)
    has_texts = run.dataset.description.input.text_column is not None
    texts = texts_of_rows(run.data, run.dataset, split, wanted) if has_texts else {}
    return dict(zip(wanted, media_of(run, stored, [texts.get(row) for row in wanted]), strict=True))


def media_of(run: Run, stored: Inputs, texts: Sequence[str | None]) -> list[Media]:
    """Return what stored inputs [N, ...] look like; ``texts`` [N] are those before they were encoded, where known."""
    described = run.dataset.description
    first = batches.tensors(stored)[0]
    if takes_picture(described.input) and len(described.inputs) == 1:
        return [Media(picture=picture_of(each, described.input)) for each in first]
    if token_count(described) is not None:
        decoded = ["".join(row).rstrip() for row in token_texts(run, stored)] if None in texts else texts
        return [Media(text=text if text is not None else other) for text, other in zip(texts, decoded, strict=True)]
    if any(text is not None for text in texts):
        return [Media(text=text) for text in texts]
    names = _column_names(run)
    if names is None:
        return [Media()] * len(first)
    values = torch.cat([each.flatten(1) for each in map(_numbers, batches.tensors(stored))], dim=1).tolist()
    return [Media(row=tuple((name, cell(value)) for name, value in zip(names, row, strict=True))) for row in values]


def picture_of(stored: Tensor, described: InputDescription) -> NDArray[np.uint8]:
    """Return a stored picture as bytes, [rows, columns] or [rows, columns, 3]."""
    values = stored
    if described.mean is not None and described.std is not None:
        mean, std = (torch.tensor(each).reshape(-1, 1, 1) for each in (described.mean, described.std))
        values = ((stored * std + mean) * 255).round().clamp(0, 255)
    pixels = values.to(torch.uint8).numpy()
    if pixels.ndim == 2:
        return pixels
    return pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0))


def token_texts(run: Run, stored: Inputs) -> list[list[str]]:
    """Return what each position of texts [N, ...] reads, [N][T]: a character, or a token's text; none for padding.

    Without a tokenizer tokens are their numbers.
    """
    first = run.dataset.description.input
    tensors = batches.named(stored)
    ids = batches.tensors(stored)[0].long()
    mask = tensors.get(".attention_mask", torch.ones_like(ids)).bool()
    if first.vocabulary is not None:
        letters = ["", *first.vocabulary]
        return [[letters[code] if code < len(letters) else "?" for code in row] for row in ids.tolist()]
    named = _token_names(run)
    return [
        [named(token) if there else "" for token, there in zip(row, seen, strict=True)]
        for row, seen in zip(ids.tolist(), mask.tolist(), strict=True)
    ]


def _token_names(run: Run) -> Callable[[int], str]:
    """Return what a token's text is, with the space before a word; a number where no tokenizer is known."""
    address = run.config.data.tokenizer or reading_of(run.config, None).text_model().tokenizer
    if address is None:
        return lambda token: f"{token} "
    tokenizer, _, _ = read_tokenizer(address)

    def named(token: int) -> str:
        text = tokenizer.id_to_token(token)
        if text is None:
            return f"{token} "
        for space in ("Ġ", "▁"):
            if space in text:
                return text.replace(space, " ")
        return text.removeprefix("##") if text.startswith("##") else f" {text}"

    return named


def _column_names(run: Run) -> list[str] | None:
    """Return the names of an input's numbers: the table's columns, else each tensor's with a place; None for many."""
    described = run.dataset.description
    count = sum(each.numbers for each in described.inputs)
    columns = number_columns(described.provenance.reader, count, run.config.data.input_columns)
    if columns is not None:
        return list(columns)
    if count > MOST_COLUMNS:
        return None
    return [f"{each.name or each.column} {place}" for each in described.inputs for place in range(each.numbers)]


def _numbers(values: Tensor) -> Tensor:
    return values.double() if values.is_floating_point() else values.long()
