"""Paths of a run against the contract, and that no two pieces of work share one."""

from itertools import product

from relatif.schemas import run_directory


def test_paths_are_the_contracts() -> None:
    assert run_directory.RUN_JSON == "run.json"
    assert run_directory.CHECKPOINT == "checkpoint/model.safetensors"
    assert run_directory.FACTORS == "factors"
    assert run_directory.TABLES == "tables"
    assert run_directory.DATA == "data"
    assert run_directory.REPORT == "report/index.html"


def test_tables_are_directories_of_parquet_files() -> None:
    assert run_directory.table("top_k") == "tables/top_k"
    assert run_directory.table_part("top_k", 3) == "tables/top_k/part-00003.parquet"
    assert run_directory.scores_part(1, 20) == "tables/scores/part-00001-00020.parquet"


def test_factors_lie_by_layer() -> None:
    assert run_directory.factor_file("features.0") == "factors/features.0.safetensors"
    assert run_directory.FACTORS_MANIFEST.startswith("factors/")
    assert run_directory.factor_file("manifest") != run_directory.FACTORS_MANIFEST


def test_every_unit_has_paths_of_its_own() -> None:
    numbers = (0, 1, 10, 99999, 100000)
    paths = [run_directory.unit_manifest(block, unit) for block, unit in product(numbers, numbers)]
    paths += [
        run_directory.unit_file(block, unit, name)
        for block, unit, name in product(numbers, numbers, ("top_k", "train_examples"))
    ]
    paths += [run_directory.scores_part(block, unit) for block, unit in product(numbers, numbers)]
    paths += [run_directory.stage_manifest(stage) for stage in ("score", "statistics")]

    assert len(set(paths)) == len(paths)


def test_parts_sort_by_number() -> None:
    parts = [run_directory.table_part("top_k", part) for part in range(0, 3000, 7)]

    assert parts == sorted(parts)


def test_work_in_progress_is_no_table() -> None:
    """Readers take every Parquet file below a table, so parts of unfinished work must lie elsewhere."""
    unfinished = [run_directory.unit_file(0, 0, "top_k"), run_directory.unit_manifest(0, 0)]

    assert all(path.startswith(run_directory.SCORE_WORK + "/") for path in unfinished)
    assert run_directory.SCORE_WORK.startswith(run_directory.WORK + "/")
    assert not run_directory.WORK.startswith(run_directory.TABLES)


def test_every_curvature_has_paths_of_its_own() -> None:
    methods = ("kfac", "ekfac", "exact", "identity", "cg", "lissa")
    of_method = (run_directory.predictions_file, run_directory.predictions_manifest, run_directory.curvature)
    paths = [path(method) for path, method in product(of_method, methods)]

    assert len(set(paths)) == len(paths)
    assert all(path.startswith(run_directory.WORK + "/") for path in paths)
