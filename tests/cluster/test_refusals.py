"""What can't be explained is refused by the name of its layer, and of its example, before any score is written."""

from pathlib import Path

import pytest

from relatif.schemas import run_directory
from relatif.schemas.errors import ModelError, NumericalError
from tests.support.faulty import BLACK_ROW, write_images_with_a_black_one
from tests.support.runs import config, run_named

pytestmark = pytest.mark.usefixtures("local_ray")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images_with_a_black_one(tmp_path_factory.mktemp("data"))


@pytest.mark.parametrize("method", ["kfac", "identity", "exact", "cg"])
@pytest.mark.parametrize(
    ("task", "error", "named"),
    [
        ("uncovered", ModelError, r"found pairs\.weight in cdist, .*curvature\.exclude"),
        ("rooted", NumericalError, rf"found layer '1' at train example {BLACK_ROW} not to be"),
    ],
)
def test_a_fault_is_named_and_nothing_is_scored(
    data: Path, tmp_path: Path, task: str, error: type[Exception], named: str, method: str
) -> None:
    settings = (f"curvature.method={method}", "score.top_k=5", "data.shard_rows=50")
    with pytest.raises(error, match=named):
        run_named(config(data, *settings, task=f"tests.support.faulty:{task}"), tmp_path)
    assert not (tmp_path / run_directory.TABLES).exists()
    assert not list((tmp_path / run_directory.WORK).rglob("*.parquet"))
