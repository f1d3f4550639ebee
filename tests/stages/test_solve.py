"""Solved numerators: against the exact curvature, resumed from finished pieces, refused with their residual."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from relatif.pipeline.devices import Worker
from relatif.pipeline.runs.durable import look_up, prove
from relatif.pipeline.runs.run import Run
from relatif.pipeline.stages import solve
from relatif.pipeline.stages.score import plan_score
from relatif.pipeline.stages.solve import SolvePlan, load_solutions, solutions_table, solve_units
from relatif.pipeline.storage.tensors import read_tensors
from relatif.schemas import run_directory
from relatif.schemas.errors import NumericalError
from relatif.schemas.tables import SOLUTIONS
from tests.support.images import write_images
from tests.support.runs import config, dense, run_named, stage_run, tables

TRAINING, TESTS = 260, 30
BASE = (
    "data.shard_rows=50",
    "score.top_k=5",
    "score.unit_rows=100",
    "score.write_scores=true",
    "train.tolerance=1e-3",
    "curvature.damping=0.05",
)
pytestmark = pytest.mark.timeout(240)  # conjugate gradients and LiSSA of every test input

ITERATIVE = {
    "cg": ("curvature.method=cg", "curvature.cg_tolerance=1e-6"),
    "lissa": ("curvature.method=lissa", "curvature.lissa_depth=1500", "curvature.lissa_batch_size=256"),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("data"), train=TRAINING, test=TESTS, rows_per_group=10)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory, data: Path, local_ray: None) -> dict[str, Path]:
    """Finished runs by method; the iterative ones divide by the exact curvature's denominators."""
    folder = tmp_path_factory.mktemp("runs")
    settings = {"exact": ("curvature.method=exact",)}
    settings |= {name: (*own, "curvature.denominators=exact") for name, own in ITERATIVE.items()}
    for name, own in settings.items():
        run_named(config(data, *BASE, *own), folder / name)
    return {name: folder / name for name in settings}


def matrix(folder: Path) -> np.ndarray:
    return dense(tables(folder)["scores"], TESTS, TRAINING).astype(np.float64)


def test_conjugate_gradients_agree_with_the_exact_inverse(out: dict[str, Path]) -> None:
    found, expected = matrix(out["cg"]), matrix(out["exact"])
    assert np.linalg.norm(found - expected) <= 1e-4 * np.linalg.norm(expected)
    assert abs(found - expected).max() <= 1e-4 * abs(expected).max()


def test_lissa_correlates_with_the_exact_inverse(out: dict[str, Path]) -> None:
    found, expected = matrix(out["lissa"]), matrix(out["exact"])
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] >= 0.99
    assert abs(found - expected).max() > 1e-6 * abs(expected).max(), "an estimate that is no estimate"


@pytest.mark.parametrize("method", ITERATIVE)
def test_only_numerators_are_solved_for(out: dict[str, Path], method: str) -> None:
    found, expected = tables(out[method]), tables(out["exact"])
    assert found["train_examples"].equals(expected["train_examples"])
    own = [table["test_examples"]["self_influence"].to_numpy() for table in (found, expected)]
    np.testing.assert_allclose(*own, rtol={"cg": 1e-5, "lissa": 0.2}[method])


@pytest.mark.parametrize("method", ITERATIVE)
def test_residuals_are_stored(out: dict[str, Path], method: str) -> None:
    table = tables(out[method])["solutions"]
    assert table.schema.equals(SOLUTIONS.schema)
    assert table["test_index"].to_pylist() == list(range(TESTS))
    limit = {"cg": 1e-6, "lissa": 0.5}[method]
    assert 0 < max(table["residual"].to_pylist()) <= limit
    assert min(table["iterations"].to_pylist()) >= 1
    assert b"exact" in table.schema.metadata[b"relatif.denominators"] if table.schema.metadata else True


def test_a_finished_piece_is_not_solved_again(
    data: Path, tmp_path: Path, out: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = config(data, *BASE, *ITERATIVE["cg"], "curvature.denominators=exact")
    run = run_named(settings, tmp_path, "train", "factors")
    monkeypatch.setattr(solve, "SOLVED_ROWS", 8)
    units = plan_score(stage_run(run, "score")).solutions
    assert [unit.first for unit in units] == [0, 8, 16, 24]
    solver = SolvePlan(run.source, run.train_shards, "predicted", run.config.curvature)(Worker())
    proofs = [prove(run.store, unit, partial(solver, unit)) for unit in units[:2]]
    assert look_up(run.store, units).pending == units[2:]
    assert all(float(proof.facts["largest_residual"]) <= 1e-6 for proof in proofs)

    for unit in units[2:]:
        prove(run.store, unit, partial(solver, unit))
    assert load_solutions(run.store, units).shape == (TESTS, 148)
    whole = solutions_table(run.store, units)
    # Solved in smaller pieces, each test input still takes the steps that it needs.
    assert abs(np.subtract(whole["iterations"], tables(out["cg"])["solutions"]["iterations"])).max() <= 1


def test_pieces_are_small_where_parameters_are_many(data: Path, out: dict[str, Path]) -> None:
    from relatif.pipeline.runs.opening import open_run

    run = open_run(config(data, *BASE, "curvature.method=exact"), str(out["exact"]))
    shards = run.dataset.shards("test", rows=50)
    stage = stage_run(run, "score")
    rows = [unit.stop - unit.start for unit in solve_units(stage, shards, solve.SOLVED_BYTES // 8 // 7)]
    assert rows == [7, 7, 7, 7, 2]
    assert [unit.stop - unit.start for unit in solve_units(stage, shards, 10**12)] == [1] * TESTS


@pytest.mark.parametrize(
    ("method", "settings", "told"),
    [
        (
            "cg",
            ["curvature.cg_max_iterations=2", "curvature.denominators=identity"],
            r"residual of at most 1e-06, found .* after at most 2 iterations.*: set curvature.cg_max_iterations",
        ),
        (
            "lissa",
            ["curvature.lissa_depth=3", "curvature.lissa_tolerance=0.01"],
            r"at most 0.01, found 0\.\d+ .* LiSSA after 3 steps.* curvature.lissa_tolerance",
        ),
        ("lissa", ["curvature.lissa_scale=0.02"], r"LiSSA to converge, found it to diverge .* scale of 0.02"),
    ],
)
@pytest.mark.usefixtures("local_ray")
def test_what_does_not_converge_raises_before_any_score(
    data: Path, tmp_path: Path, method: str, settings: list[str], told: str
) -> None:
    made = config(data, *BASE, f"curvature.method={method}", *settings)
    with pytest.raises(NumericalError, match=told):
        run_named(made, tmp_path)
    assert not (tmp_path / run_directory.TABLES).exists()


@pytest.mark.usefixtures("local_ray")
def test_solutions_depend_on_their_seed_alone(data: Path, tmp_path: Path) -> None:
    settings = ("curvature.method=lissa", "curvature.lissa_depth=100", "curvature.lissa_tolerance=0.99")

    def solved(seed: int, threads: int) -> torch.Tensor:
        made = config(data, *BASE, *settings, f"curvature.lissa_seed={seed}")
        run: Run = run_named(made, tmp_path, "train", "factors")
        plan = plan_score(stage_run(run, "score"))
        solver = SolvePlan(run.source, run.train_shards, "predicted", run.config.curvature)
        solver(Worker(threads))(plan.solutions[0])
        return read_tensors(run.store, run_directory.solution_file(0))["solution"]

    found = {"one": solved(1, 1), "again": solved(1, 2), "other": solved(2, 1)}
    assert torch.equal(found["one"], found["again"])
    assert not torch.equal(found["one"], found["other"])


@pytest.mark.usefixtures("local_ray")
def test_what_does_not_converge_is_told_by_the_first_input_alone(data: Path, tmp_path: Path) -> None:
    """The others cost as much each; the first one's products show that the settings are at fault."""
    made = config(data, *BASE, "curvature.method=lissa", "curvature.lissa_depth=1", "curvature.lissa_tolerance=1e-9")
    run = run_named(made, tmp_path, "train", "factors")
    unit = plan_score(stage_run(run, "score")).solutions[0]
    assert unit.stop - unit.start > 1
    solver = SolvePlan(run.source, run.train_shards, "predicted", run.config.curvature)(Worker(1))
    with pytest.raises(NumericalError, match="right-hand side 0 of 1 by LiSSA"):
        solver(unit)
