"""The room that kept gradients take, as it is announced before the work."""

from pathlib import Path

import pytest

from relatif.pipeline.explaining.finished_run import open_finished_run
from relatif.pipeline.explaining.stored_size import stored_bytes, stored_lines
from relatif.schemas import run_directory
from tests.support.explained_runs import finished

BLOCKS, COLUMNS, ALIGNMENT = 4, 20, 64


@pytest.mark.parametrize("kind", ["logistic", "positions", "exact"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_gradients_take_as_many_bytes_as_announced_but_for_alignment(tmp_path: Path, kind: str, dtype: str) -> None:
    out = finished(tmp_path, kind, "score.gradient_store=true", f"score.gradient_store_dtype={dtype}")
    run = open_finished_run(out)
    size = sum(file.stat().st_size for file in (out / run_directory.GRADIENTS).glob("*.bin"))
    assert stored_bytes(run) <= size <= stored_bytes(run) + ALIGNMENT * BLOCKS * COLUMNS
    ((name, text),) = stored_lines(run)
    assert (name, text.split(",")[0]) == ("gradients kept", dtype)
