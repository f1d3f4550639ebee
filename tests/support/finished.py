"""Finished runs whose tables are made up: what reads a run is tried on them without a model, and without Ray."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from relatif.pipeline.datasets.shards import open_dataset
from relatif.pipeline.runs.durable import Made, Piece, prove
from relatif.pipeline.runs.opening import open_finished
from relatif.pipeline.runs.run import Run, record, relabelled
from relatif.pipeline.stages.table_statistics import statistics_from_tables
from relatif.pipeline.storage.parquet import write_table
from relatif.pipeline.storage.store import open_store
from relatif.schemas import run_directory
from relatif.schemas.columns import TableSpec
from relatif.schemas.config import RunConfig
from relatif.schemas.methods import METHODS
from relatif.schemas.tables import INFLUENCE_SETS, OVERLAP, TEST_EXAMPLES, TOP_K, TRAIN_EXAMPLES

RANKS = 8
EVERY_METHOD = ("influence", "theta_relatif", "l_relatif", "nearest_neighbour", "negative_influence")

CLASSES, NUMBERS, SEVERAL = "classes", "numbers", "several"
"""What targets are: a class, a number, several numbers."""

METADATA = {"measurement": "loss of the predicted target", "covered_parameters": "10 of 10 parameters in 1 layer(s)"}


@dataclass(frozen=True)
class MadeUp:
    """Tables that are drawn at random: ``kind`` of targets, methods, and whether rows have identifiers.

    ``tests`` are the explained rows, by default all of the part.
    """

    kind: str = CLASSES
    methods: tuple[str, ...] = EVERY_METHOD
    ids: bool = False
    labelled: bool = True
    tests: tuple[int, ...] | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=lambda: dict(METADATA))


def finished_run(out: Path, data: Path, made: MadeUp, seed: int = 0) -> Run:
    """Write a run of the prepared data in ``data`` with tables that are made up, and open it."""
    config = RunConfig.model_validate(
        {
            "task": "made:up",
            **made.settings,
            "data": {"source": str(data), **made.settings.get("data", {})},
            "score": {"top_k": RANKS, "methods": made.methods, **made.settings.get("score", {})},
        }
    )
    run = _begun(config, out)
    chance = np.random.default_rng(seed)
    tests = made.tests or tuple(range(run.test_rows))
    write(run, TRAIN_EXAMPLES, _examples(run, made, "train", range(run.scored_rows), chance), made.metadata)
    write(run, TEST_EXAMPLES, _examples(run, made, "test", tests, chance), made.metadata)
    write(run, TOP_K, _lists(run, made, tests, chance), made.metadata)
    finish(run)
    return open_finished(str(out))


def _begun(config: RunConfig, out: Path) -> Run:
    data = open_store(config.data.source)
    return Run(config, open_store(out), data, relabelled(open_dataset(data), config.data))


def finish(run: Run) -> None:
    """Write the statistics of a run's tables, the proof of the last stage, and the record."""
    ks = {"influence_set_k": (1, 5), "overlap_k": (1, 5)}
    tables = statistics_from_tables(run.store.child(run_directory.TABLES), **ks)

    def made() -> Made:
        for spec, table in zip((INFLUENCE_SETS, OVERLAP), tables, strict=True):
            write(run, spec, table)
        return Made(())

    prove(run.store, Piece("statistics", run_directory.stage_manifest("statistics"), "of made-up tables"), made)
    # The task is made up, too: it reads no files.
    run.__dict__["task_files"] = {}
    record(run, {}, None, {})


def write(
    run: Run, spec: TableSpec, rows: list[dict[str, Any]] | pa.Table, metadata: dict[str, str] | None = None
) -> None:
    """Write a table's first part."""
    table = rows if isinstance(rows, pa.Table) else pa.Table.from_pylist(rows, schema=spec.schema)
    write_table(run.store, run_directory.table_part(spec.name, 0), table, spec, metadata or {})


def _examples(run: Run, made: MadeUp, split: str, rows: Any, chance: np.random.Generator) -> list[dict[str, Any]]:
    index, classes = f"{split}_index", len(run.dataset.class_names)
    found = []
    for row in rows:
        numbers = dict(
            zip(("loss", "gradient_norm", "theta_norm", "self_influence"), chance.gamma(2.0, size=4), strict=True)
        )
        entry: dict[str, Any] = {index: row, **numbers}
        if made.kind == CLASSES:
            label, predicted = (int(each) for each in chance.integers(0, classes, 2))
            predicted = label if chance.random() < 0.7 else predicted
            known = made.labelled or split == "train"
            entry |= {"label": label if known else None, "predicted_label": predicted, "probability": chance.random()}
            entry |= {"explained_label": predicted} if split == "test" else {}
        else:
            count = 1 if made.kind == NUMBERS else 3
            entry |= {"target": chance.normal(size=count).tolist(), "prediction": chance.normal(size=count).tolist()}
        entry |= {f"{split}_id": f"{split}-{row}" if made.ids else None}
        found.append(entry)
    return found


def _lists(run: Run, made: MadeUp, tests: Any, chance: np.random.Generator) -> list[dict[str, Any]]:
    count = run.scored_rows
    ranks = min(run.config.score.top_k, count)
    rows = []
    for method in made.methods:
        # Few examples stand in many lists by influence.
        weights = np.ones(count) if method != "influence" else 1 / np.arange(1, count + 1) ** 1.5
        for test in tests:
            listed = chance.choice(count, ranks, replace=False, p=weights / weights.sum())
            scores = np.sort(chance.gamma(2.0, size=ranks))[::-1]
            if METHODS[method].numerator == "distance":
                scores = -scores[::-1]
            rows += [
                {
                    "method": method,
                    "test_index": int(test),
                    "rank": rank,
                    "train_index": int(train),
                    "score": float(score),
                    "train_id": f"train-{train}" if made.ids else None,
                }
                for rank, (train, score) in enumerate(zip(listed, scores, strict=True), start=1)
            ]
    return rows
