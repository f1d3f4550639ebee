"""The paper's figures of images: which inputs and examples they show, and that they are drawn."""

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from relatif.pipeline.report.page.figures import Seen, paper_figures, pictures_of_jobs, side_by_side
from relatif.pipeline.report.page.sources import source_of
from relatif.pipeline.storage.store import open_store
from relatif.schemas import run_directory
from tests.support.finished import MadeUp, finished_run
from tests.support.page_inputs import write_kind


def picture(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("L"))


@pytest.mark.parametrize(("experiment", "titles"), [("LR", ["3", "4", "8"]), ("CNN", ["3", "5, 10 and 11", "9"])])
def test_figures_of_the_paper_s_experiments_are_drawn_from_the_tables(
    tmp_path: Path, experiment: str, titles: list[str]
) -> None:
    run = finished_run(tmp_path / "out", write_kind(tmp_path / "data", "grey"), MadeUp())
    source = source_of(run)
    tiles = {row: np.full((6, 6), row, np.uint8) for row in range(60)}
    seen = Seen(tiles, tiles, run.dataset.class_name)
    places = np.arange(24)
    found = list(paper_figures(experiment, source.tables, places, source.story, seen))
    assert [each["title"].split(":")[0].removeprefix("Figs. ").removeprefix("Fig. ") for each in found] == titles
    assert all(picture(base64.b64decode(each["png"])).std() > 0 for each in found)
    assert list(paper_figures(None, source.tables, places, source.story, seen)) == []
    assert list(paper_figures("LSTM", source.tables, places, source.story, seen)) == []

    shown = side_by_side(source.tables, [4], ("influence", "l_relatif"), seen)
    cells = [None if cell is None else int(cell.tile[0, 0]) for cell in shown.rows[0]]
    lists = source.tables.lists.train
    assert cells == [4, None, *lists["influence"][4, :5], None, *lists["l_relatif"][4, :5]]


def test_pictures_that_jobs_left_are_shown(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    assert pictures_of_jobs(store) == []
    store.publish_bytes(run_directory.PLANE, b"a picture")
    (entry,) = pictures_of_jobs(store)
    assert base64.b64decode(entry["png"]) == b"a picture"
    assert entry["title"].startswith("Fig. 1")
