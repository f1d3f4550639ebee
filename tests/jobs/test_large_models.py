"""Models whose gradients do not fit into memory go through the real job, within a limit."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.dataset as ds
import pytest

from relatif.pipeline.storage.parquet import table_metadata
from relatif.pipeline.storage.store import open_store
from tests.support.large import BERT_WORDS, GPT_WORDS, write_texts

pytestmark = pytest.mark.long

GIB = 2**30

SETTINGS = """
task = "tests.support.large:{task}"
[data]
source = "{folder}/data"
[train]
weight_decay = 0
[curvature]
layers = {layers}
precision = "float32"
[score]
top_k = 4
methods = ["influence", "theta_relatif", "l_relatif"]
explained_label = "true"
[cluster]
local_cpus = 1
"""


@pytest.mark.parametrize(
    ("task", "words", "layers", "limit"),
    # Dense gradients of two blocks in float64 take 113 MB for each of 24 documents; of the words alone 187 MB.
    [("gpt2_of_two_layers", GPT_WORDS, ["blocks.*"], 7 * GIB), ("words_of_distilbert", BERT_WORDS, ["words"], 5 * GIB)],
)
@pytest.mark.timeout(1200)
def test_peak_memory_of_a_run_stays_below_its_limit(
    tmp_path: Path, task: str, words: int, layers: list[str], limit: int
) -> None:
    write_texts(tmp_path / "data", words, 24, 4, labelled=task != "gpt2_of_two_layers")
    (tmp_path / "run.toml").write_text(SETTINGS.format(task=task, folder=tmp_path, layers=layers).replace("'", '"'))

    peak = peak_of(["-m", "jobs.run", "--config", str(tmp_path / "run.toml"), "--out", str(tmp_path / "out")])

    assert ds.dataset(tmp_path / "out" / "tables" / "top_k").count_rows() == 3 * 4 * 4
    assert table_metadata(open_store(str(tmp_path / "out")), "tables/top_k")["precision"] == "float32"
    print(f"peak {peak / GIB:.2f} GiB")
    assert peak < limit, f"{peak / GIB:.2f} GiB"


def peak_of(arguments: list[str]) -> int:
    """Run Python to its end; return the largest sum of resident memory of its processes, seen twice a second."""
    job = subprocess.Popen([sys.executable, *arguments])
    peak = 0
    try:
        while job.poll() is None:
            peak = max(peak, sum(map(resident, tree(job.pid))))
            time.sleep(0.5)
    finally:
        job.kill()
    assert job.returncode == 0
    return peak


def tree(process: int) -> list[int]:
    """Return a process and all below it, as far as they are still there."""
    found = [process]
    for children in Path(f"/proc/{process}/task").glob("*/children"):
        try:
            below = children.read_text().split()
        except OSError:
            continue
        found += [each for child in below for each in tree(int(child))]
    return found


def resident(process: int) -> int:
    """Return the resident memory of a process; what several share counts in each."""
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
