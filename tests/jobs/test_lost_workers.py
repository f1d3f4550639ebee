"""In short, what tests/faults/test_nodes.py shows at length: a lost node and a stopped worker end no run.

The score stage is run on two nodes of which one is lost; its tables are those of an undisturbed run.
"""

from pathlib import Path

import pytest

from relatif.pipeline.cluster.attempts import Limits
from relatif.pipeline.cluster.pool import Work, run_units
from relatif.pipeline.cluster.session import WorkerShape
from tests.support.faults import SETTINGS, Disturbed, differing, seeded
from tests.support.images import write_images
from tests.support.runs import config, run_named
from tests.support.trouble import Trouble, stop
from tests.support.unhurried import UNHURRIED


@pytest.mark.timeout(300)  # three runs and a cluster: a minute, but more than two where many share the cores
def test_a_node_that_is_lost_changes_no_bit(tmp_path: Path, local_ray: None) -> None:
    data = write_images(tmp_path / "data", train=400, test=10)
    settings = config(data, *SETTINGS[1:], "train.tolerance=1e-2", "curvature.method=identity", task=UNHURRIED)
    run_named(settings, tmp_path / "begun", "train", "factors")
    out, undisturbed = seeded(tmp_path / "begun", tmp_path / "run"), seeded(tmp_path / "begun", tmp_path / "other")
    run_named(settings, undisturbed, "score")
    words = [*SETTINGS, f"data.source={data}", "train.tolerance=1e-2", "curvature.method=identity"]
    job = Disturbed("score", out, words)
    log = job.run((1, 1), "score: begins", 3.0, lambda there: there.lose(1))
    assert "score: finished, 8/8 units" in log
    assert differing(out, undisturbed) == []


def test_the_unit_of_a_stopped_worker_is_done_by_another(
    tmp_path: Path, local_ray: None, capfd: pytest.CaptureFixture[str]
) -> None:
    done: list[int] = []
    work, limits = Work(Trouble(tmp_path, 0, stop), range(4), "score"), Limits(silence_s=4)
    run_units(work, WorkerShape(2, 1, 0), done=done.append, limits=limits)
    assert sorted(done) == [0, 1, 2, 3]
    assert "score: 0: no sign of life from" in capfd.readouterr().err
