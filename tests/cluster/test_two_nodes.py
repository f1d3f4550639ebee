"""Two nodes: each holds an actor, and together they write what one node writes."""

import sys
from pathlib import Path

from relatif.schemas.reading import load_config
from tests.support.processes import job, sandbox, wait_until
from tests.support.runs import MNIST, MNIST_CONFIG, file_bytes, run_named

SETTINGS = (
    f"data.source={MNIST}",
    "data.train_limit=4000",
    "data.shard_rows=1000",
    "train.tolerance=1e-2",
    "score.unit_rows=1000",
    "score.test_limit=300",
    "curvature.method=ekfac",
    "cluster.shards_per_task=1",
)
ON_TWO_NODES = ("cluster.workers=2", "cluster.threads_per_worker=1")
RESULTS = ("factors/*.safetensors", "tables/**/*.parquet", "checkpoint/*.safetensors")


def test_two_nodes_write_what_one_writes(tmp_path: Path, local_ray: None) -> None:
    arguments = job("run", MNIST_CONFIG, tmp_path / "two", [*SETTINGS, *ON_TWO_NODES])[3:]
    with sandbox() as machines:
        ended = machines.run(sys.executable, "-m", "tests.support.two_nodes", *arguments, RAY_AUTH_MODE="token")
        wait_until(lambda: not machines.processes(), timeout=15)
    assert ended.returncode == 0, ended.stderr
    # One core a node: two actors of one core that work at the same time work on two nodes.
    assert "actors            2 with 1 core(s)" in ended.stderr
    assert "4 to compute" in ended.stderr

    run_named(load_config(MNIST_CONFIG, SETTINGS), tmp_path / "one")
    for pattern in RESULTS:
        found, expected = file_bytes(tmp_path / "two", pattern), file_bytes(tmp_path / "one", pattern)
        assert expected
        assert found == expected
