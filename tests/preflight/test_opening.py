"""A run is looked at without writing: of published data the first rows alone are read."""

from pathlib import Path

import pytest
import torch

from relatif.pipeline.datasets.published import prepare
from relatif.pipeline.preflight.opening import head, is_head, last, opened
from relatif.pipeline.storage.store import open_store
from tests.support.images import LOGISTIC, write_images
from tests.support.own_tasks import TESTS, TRAINING, write_image_parquet
from tests.support.runs import config, file_bytes


def test_published_data_is_laid_out_elsewhere_and_taken_where_it_was_prepared(tmp_path: Path) -> None:
    write_image_parquet(tmp_path / "published")
    settings, out = config(tmp_path / "published", task=LOGISTIC), tmp_path / "out"
    with opened(settings, str(out)) as run:
        assert is_head(run)
        assert (run.train_rows, run.test_rows) == (TRAINING, TESTS)
        assert last(run, "train") is None
        first = run.source.stored(head(run, "train", rows=5)[0])
        address = Path(run.data.url)
    assert not out.exists()
    assert not address.exists(), "it was for looking only"

    prepare(open_store(tmp_path / "published"), open_store(out / "data"))
    before = file_bytes(out)
    with opened(settings, str(out)) as run:
        assert not is_head(run)
        assert torch.equal(run.source.stored(head(run, "train", rows=5)[0]).inputs, first.inputs)
    assert file_bytes(out) == before


@pytest.mark.parametrize(
    ("limits", "rows"), [((), (200, 40)), (("data.train_limit=170", "score.test_limit=30"), (170, 30))]
)
def test_first_and_last_rows_of_prepared_data_are_those_that_the_run_reads(
    tmp_path: Path, limits: tuple[str, ...], rows: tuple[int, int]
) -> None:
    data = write_images(tmp_path / "data", train=200)
    with opened(config(data, *limits), str(tmp_path / "out")) as run:
        assert not is_head(run)
        for split, count in zip(("train", "test"), rows, strict=True):
            assert head(run, split, rows=60)[0].start == 0
            assert head(run, split, rows=60)[-1].stop == min(60, count)
            assert last(run, split).stop == count
