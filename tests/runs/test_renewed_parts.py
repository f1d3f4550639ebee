"""A table's changed test part is taken into a finished run in place; whatever else changes is refused untouched."""

import csv
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from relatif.pipeline.datasets.published import open_source, read_once
from relatif.pipeline.preflight.looking import look, look_before_preparing
from relatif.pipeline.preflight.opening import opened
from relatif.pipeline.preflight.text import plan_text
from relatif.pipeline.report.own_run import own_run_text
from relatif.pipeline.runs import running
from relatif.pipeline.runs.opening import open_finished
from relatif.pipeline.runs.running import Before, run_stages
from relatif.pipeline.runs.verifying import verify_run
from relatif.pipeline.stages.whole_run import WHOLE_RUN
from relatif.schemas.config import RunConfig
from relatif.schemas.errors import ChangedRunError, ConfigurationError, DataError
from relatif.schemas.methods import DEFAULT_METHODS
from tests.support.images import PERCEPTRON, SIDE
from tests.support.regression import FEATURES, TASK
from tests.support.runs import config, file_bytes, tables

pytestmark = pytest.mark.usefixtures("local_ray")

KEPT = ("checkpoint/**/*", "factors/**/*", "data/train/*")
TRAINING = 60

FLOAT32 = 1e-5
"""Scores of fewer test inputs are sums in another order."""


def write_rows(path: Path, count: int, seed: int) -> None:
    """Write rows of numbers with whole numbers as identifiers."""
    chance = np.random.default_rng(seed)
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow([f"x{number}" for number in range(FEATURES)] + ["price", "house"])
        for row, numbers in enumerate(chance.standard_normal((count, FEATURES + 1)).round(4).tolist()):
            rows.writerow([*numbers, 1000 * seed + 7 * row])


def settings(source: Path, *more: str) -> RunConfig:
    columns = [f"x{number}" for number in range(FEATURES)]
    given = (f"data.input_columns={columns}", "data.target_columns=['price']", "data.id_column=house")
    return config(source, *given, "curvature.method=exact", "score.top_k=5", *more, task=TASK)


def as_job(asked: RunConfig, out: Path) -> None:
    """Run all stages as the jobs do: a look at everything first, then the work."""
    read = read_once()
    found = look_before_preparing(asked, str(out), lambda _: WHOLE_RUN, WHOLE_RUN, read)
    before = Before(opener=partial(open_source, read=read), found=found)
    run_stages(asked, str(out), lambda _: WHOLE_RUN, known=WHOLE_RUN, before=before)


def houses(path: Path) -> list[str]:
    with path.open(newline="") as file:
        return [row["house"] for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, local_ray: None) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    source = folder / "source"
    source.mkdir()
    for seed, (name, count) in enumerate({"train": TRAINING, "test": 8, "ask": 3}.items()):
        write_rows(source / f"{name}.csv", count, seed)
    as_job(settings(source), folder / "run")
    return folder


@pytest.fixture
def source(finished: Path, tmp_path: Path) -> Path:
    return shutil.copytree(finished / "source", tmp_path / "source")


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return shutil.copytree(finished / "run", tmp_path / "run")


def kept(run: Path) -> list[dict[str, bytes]]:
    return [file_bytes(run, pattern) for pattern in KEPT]


def require_as_fresh(asked: RunConfig, run: Path, fresh: Path) -> None:
    """The run's tables are those of a run that never saw other data, and every proof holds."""
    as_job(asked, fresh)
    assert tables(run) == tables(fresh)
    assert verify_run(str(run)).faults == ()


def test_identifiers_of_whole_numbers_stand_in_every_table(finished: Path) -> None:
    train, test = (houses(finished / f"source/{part}.csv") for part in ("train", "test"))
    found = tables(finished / "run")
    for name, index, ids, known in (
        ("train_examples", "train_index", "train_id", train),
        ("test_examples", "test_index", "test_id", test),
        ("top_k", "train_index", "train_id", train),
    ):
        rows = found[name].to_pylist()
        assert rows
        assert [row[ids] for row in rows] == [known[row[index]] for row in rows], name


@pytest.mark.parametrize("changed", ["file", "part"])
def test_another_test_set_trains_nothing_and_gives_the_tables_of_a_fresh_run(
    run: Path, source: Path, tmp_path: Path, changed: str, capsys
) -> None:
    more = ("data.test=ask",) if changed == "part" else ()
    if changed == "file":
        write_rows(source / "test.csv", 6, 11)
    asked, before, whole = settings(source, *more), kept(run), file_bytes(run)
    with opened(asked, str(run)) as looked_at:
        plan = look(looked_at, WHOLE_RUN)
        assert plan_text(plan)
    assert file_bytes(run) == whole, "check writes nothing"
    assert list(plan.finished) == ["train", "factors"]
    capsys.readouterr()
    as_job(asked, run)
    log = capsys.readouterr().err
    assert kept(run) == before
    assert "anew, train stays as it is\n" in log
    assert f"taken into {run} in place, from stage score on; train and factors stay as they are" in log
    assert all(f"{stage}: was finished earlier" in log for stage in ("train", "factors"))
    require_as_fresh(asked, run, tmp_path / "fresh")


def test_a_part_to_score_is_named_later_and_may_change(run: Path, source: Path, tmp_path: Path) -> None:
    asked, before = settings(source, "data.scored=ask", "score.top_k=3"), kept(run)
    as_job(asked, run)
    assert tables(run)["train_examples"].num_rows == 3
    write_rows(source / "ask.csv", 5, 12)
    as_job(asked, run)
    assert kept(run) == before
    require_as_fresh(asked, run, tmp_path / "fresh")


@pytest.mark.parametrize("removed", [False, True])
def test_a_changed_training_file_is_refused_by_its_name_and_nothing_is_touched(
    run: Path, source: Path, removed: bool, capsys
) -> None:
    if removed:
        shutil.rmtree(run / "data")
    before, right = file_bytes(run), (source / "train.csv").read_bytes()
    write_rows(source / "train.csv", TRAINING, 13)
    asked, message = settings(source), rf"found {source}/train\.csv changed; set it back.* nothing was touched"
    with pytest.raises(DataError, match=message), opened(asked, str(run)):
        pass
    with pytest.raises(DataError, match=message):
        as_job(asked, run)
    with pytest.raises(DataError, match=message):
        run_stages(asked, str(run), lambda _: WHOLE_RUN)
    assert {name: data for name, data in file_bytes(run).items() if "claims" not in name} == {
        name: data for name, data in before.items() if "claims" not in name
    }
    (source / "train.csv").write_bytes(right)
    as_job(asked, run)
    assert "score: was finished earlier" in capsys.readouterr().err
    assert verify_run(str(run)).faults == ()


def test_what_is_refused_beside_a_changed_test_file_leaves_the_data(run: Path, source: Path) -> None:
    before = file_bytes(run)
    write_rows(source / "test.csv", 6, 11)
    with pytest.raises(ChangedRunError, match=r"train\.weight_decay"):
        as_job(settings(source, "train.weight_decay=0.3"), run)
    assert file_bytes(run) == before


@pytest.mark.parametrize("moment", ["begin", "_record"])
def test_a_run_that_is_killed_while_a_test_set_is_taken_in_is_completed_by_the_same_command(
    run: Path, source: Path, tmp_path: Path, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    as_job(settings(source), run)  # the record names the folder into which the run was copied
    write_rows(source / "test.csv", 6, 11)
    asked, before = settings(source), kept(run)
    monkeypatch.setattr(running, moment, killed)
    with pytest.raises(KeyboardInterrupt):
        as_job(asked, run)
    monkeypatch.undo()
    if moment != "session":
        with pytest.raises(DataError, match=r"expected the data that the run in .* was begun with"):
            open_finished(str(run))
    assert verify_run(str(run)).faults
    as_job(asked, run)
    assert kept(run) == before
    require_as_fresh(asked, run, tmp_path / "fresh")


def test_test_rows_are_chosen_by_identifier(run: Path, source: Path, tmp_path: Path) -> None:
    names = houses(source / "test.csv")
    before = tables(run)
    as_job(settings(source, f"score.test_rows=['{names[5]}', '{names[2]}']"), run)
    found = tables(run)
    assert found["test_examples"]["test_id"].to_pylist() == [names[2], names[5]]
    expected = [row for row in before["top_k"].to_pylist() if row["test_index"] in (2, 5)]
    assert len(found["top_k"]) == len(expected) == 2 * 5 * len(DEFAULT_METHODS)
    for one, other in zip(found["top_k"].to_pylist(), expected, strict=True):
        assert one.pop("score") == pytest.approx(other.pop("score"), rel=FLOAT32)
        assert one == other


@pytest.mark.parametrize("place", ["run", "fresh"])
def test_an_unknown_identifier_is_refused_by_name_before_any_work(
    run: Path, source: Path, tmp_path: Path, place: str
) -> None:
    out = tmp_path / place
    before = file_bytes(run)
    with pytest.raises(ConfigurationError, match=r"in score\.test_rows, found '17', which none has"):
        as_job(settings(source, "score.test_rows=['1007', '17']"), out)
    assert file_bytes(run) == before
    assert (tmp_path / "fresh").exists() is False


def test_an_identifier_far_behind_the_first_rows_is_known_before_the_data_is_prepared(
    source: Path, tmp_path: Path
) -> None:
    write_rows(source / "test.csv", 2500, 4)
    asked = settings(source, f"score.test_rows=['{4000 + 7 * 2400}']")
    look_before_preparing(asked, str(tmp_path / "fresh"), lambda _: WHOLE_RUN, WHOLE_RUN)
    assert not (tmp_path / "fresh").exists()


def test_pictures_are_named_by_their_paths(tmp_path: Path) -> None:
    chance = np.random.default_rng(0)
    paths: dict[str, list[str]] = {"train": [], "test": []}
    for part, count in (("train", 6), ("test", 2)):
        for name in ("a", "b", "c", "d"):
            (tmp_path / "source" / part / name).mkdir(parents=True)
            for number in range(count):
                paths[part].append(f"{part}/{name}/{number}.png")
                pixels = chance.integers(0, 255, (SIDE, SIDE), np.uint8)
                Image.fromarray(pixels).save(tmp_path / "source" / paths[part][-1])
    asked = config(tmp_path / "source", "data.id_column=path", "score.top_k=3", "train.tolerance=1e-2", task=PERCEPTRON)
    as_job(asked, tmp_path / "run")
    found = tables(tmp_path / "run")
    assert found["train_examples"]["train_id"].to_pylist() == paths["train"], "in order of path within class"
    assert found["test_examples"]["test_id"].to_pylist() == paths["test"]
    assert all(row["train_id"] == paths["train"][row["train_index"]] for row in found["top_k"].to_pylist())
    run = open_finished(str(tmp_path / "run"))
    assert "Test input 0 'test/a/0.png' (label 'a', " in own_run_text(run, run.store.child("tables"))
