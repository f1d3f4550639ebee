"""The examples that a page of a comparison shows: what runs say of them, and how they look where data can be read.

Axes: P positions of the page.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from relatif.pipeline.datasets.shards import PreparedDataset
from relatif.pipeline.report.comparing import Compared, is_same_data
from relatif.pipeline.report.example_rows import known_rows
from relatif.pipeline.report.page.media import Look, Media, look_of, read_media
from relatif.pipeline.report.page.sprites import sheets
from relatif.pipeline.runs.opening import open_finished
from relatif.pipeline.runs.run import Run
from relatif.schemas.errors import RelatifError
from relatif.schemas.exports import Side

NOTHING = Look("none")
NOUNS = {"image": "image", "text": "text", "row": "row", "none": "example"}


@dataclass(frozen=True, eq=False)
class Shelf:
    """Where a run's examples stand: ``place`` is that of the first run with the same data, whose ``run`` reads them.

    ``run`` is None where its data can't be read, and ``unread`` says why.
    """

    place: int
    run: Run | None
    unread: str | None = None


def shelves_of(runs: Sequence[Compared]) -> list[Shelf]:
    """Return each run's shelf; runs on the same data share one."""
    found: list[Shelf] = []
    for number, run in enumerate(runs):
        same = next((place for place in range(number) if is_same_data(runs[place], run)), None)
        found.append(_opened(number, run) if same is None else Shelf(found[same].place, found[same].run))
    return found


def _opened(place: int, run: Compared) -> Shelf:
    try:
        return Shelf(place, open_finished(run.name))
    except RelatifError as error:
        return Shelf(
            place, None, f"The data of {run.name} is not there, so that its examples are shown by name: {error}"
        )


def shown_examples(
    runs: Sequence[Compared],
    shelves: Sequence[Shelf],
    train: Sequence[tuple[int, int]],
    test: Sequence[tuple[int, int]],
) -> dict[str, Any]:
    """Return the page's columns of examples, each a shelf's place and a row: ``train``, ``test``, ``sheets``, ``run``.

    ``predicted`` is the shelf's own run's answer; ``answers`` are those of all runs, None where another's data differ.
    """
    look = _look(shelves)
    media = {"train": _media(shelves, train, "train", look), "test": _media(shelves, test, "test", look)}
    tiles = [*media["train"].tiles, *media["test"].tiles]
    data = next((shelf.run.dataset for shelf in shelves if shelf.run is not None), None)
    noun = NOUNS[look.kind]
    # Rows of data.scored were never trained on.
    scored = "training" if all(run.record.config.data.scored is None for run in runs) else "scored"
    described = {
        "kind": "classes" if data is not None and data.class_names else "other",
        "media": look.kind,
        "classes": None if data is None else list(data.class_names) or None,
        "noun": {"train": [f"{scored} {noun}", f"{scored} {noun}s"], "test": [f"test {noun}", f"test {noun}s"]},
    }
    return {
        "run": described,
        "sheets": sheets(tiles).json() if tiles else None,
        "columns": None if look.columns is None else list(look.columns),
        "train": _columns(runs, shelves, train, "train", media["train"]),
        "test": _columns(runs, shelves, test, "test", media["test"]),
    }


def _look(shelves: Sequence[Shelf]) -> Look:
    """Return how all examples are shown: one way for the page, and none where a run's data looks otherwise."""
    read = {shelf.place: shelf.run for shelf in shelves}
    if None in read.values():
        return NOTHING
    data: list[PreparedDataset] = [run.dataset for run in read.values() if run is not None]
    looks = [
        look_of(each.description, run.config.data.input_columns)
        for each, run in zip(data, read.values(), strict=True)
        if run
    ]
    shapes = {each.description.input.shape for each in data}
    return (
        looks[0]
        if all(look == looks[0] for look in looks) and (len(shapes) == 1 or looks[0].kind != "image")
        else NOTHING
    )


def _media(shelves: Sequence[Shelf], rows: Sequence[tuple[int, int]], side: Side, look: Look) -> Media:
    """Return what examples look like, in their order."""
    if look.kind == "none" or not rows:
        return Media()
    found: dict[tuple[int, int], Any] = {}
    for place in sorted({place for place, _ in rows}):
        run = shelves[place].run
        assert run is not None, "a page without a run's data shows no media"
        part = "test" if side == "test" else run.config.data.scored or "train"
        here = [row for other, row in rows if other == place]
        media = read_media(run.data, run.dataset, part, here, look)
        found.update(zip([(place, row) for row in here], media.tiles or media.texts or media.rows or [], strict=True))
    shown = [found[each] for each in rows]
    return {"image": Media(tiles=shown), "text": Media(texts=shown), "row": Media(rows=shown)}[look.kind]


def _columns(
    runs: Sequence[Compared], shelves: Sequence[Shelf], rows: Sequence[tuple[int, int]], side: Side, media: Media
) -> dict[str, Any]:
    names = ["label", "predicted_label", f"{side}_id"]
    told = [_told(run, shelf, rows, side, names) for run, shelf in zip(runs, shelves, strict=True)]
    own = [told[place][position] or {} for position, (place, _) in enumerate(rows)]
    ids = [each.get(f"{side}_id") for each in own]
    return {
        "index": [row for _, row in rows],
        "id": ids if any(each is not None for each in ids) else None,
        "label": [each.get("label") for each in own],
        "predicted": [each.get("predicted_label") for each in own],
        "answers": [[None if row is None else row["predicted_label"] for row in each] for each in told],
        "text": media.texts,
        "row": media.rows,
    }


def _told(
    run: Compared, shelf: Shelf, rows: Sequence[tuple[int, int]], side: Side, names: Sequence[str]
) -> list[dict[str, Any] | None]:
    """Return what a run's table says of each position [P], None for other data and inputs that the run leaves out."""
    here = {row for place, row in rows if place == shelf.place}
    found = known_rows(run.tables, side, here, names)
    return [found.get(row) if place == shelf.place else None for place, row in rows]
