"""Which rows of the test part are explained: all, some by number or identifier, drawn ones, or misclassified ones.

Chosen rows are read as shards of their own, whose rows count from 0: positions. Tables tell rows of the part again.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from relatif.pipeline.calls import run_model
from relatif.pipeline.datasets.label_column import UNLABELLED
from relatif.pipeline.datasets.shards import Chosen, Shard, read_ids
from relatif.pipeline.draws import sampled_rows
from relatif.pipeline.runs.run import Run
from relatif.pipeline.runs.source import Source
from relatif.schemas.errors import ConfigurationError, DataError
from relatif.schemas.score_config import MISCLASSIFIED, RANDOM

SETTING = "score.test_rows"

ROWS_AT_ONCE = 64
"""Rows that the model reads at once while misclassified ones are looked for."""

SEED = 0
"""Decides which rows ``random:N`` draws."""


def named_rows(run: Run) -> tuple[int, ...] | None:
    """Return the rows that the settings choose, rising; None for all of them and for misclassified ones.

    Raises ConfigurationError for rows and identifiers that the test part does not have.
    """
    asked, available = run.config.score.test_rows, run.test_rows
    if asked is None or asked == MISCLASSIFIED:
        return None
    if isinstance(asked, str):
        count = int(asked.removeprefix(RANDOM))
        if count > available:
            raise ConfigurationError(
                f"expected {SETTING} = {RANDOM}N of at most the {available} test inputs, found {count}; lower it"
            )
        return tuple(sampled_rows(available, count, SEED))
    rows = _by_identifier(run, [each for each in asked if isinstance(each, str)])
    rows += [each for each in asked if isinstance(each, int)]
    beyond = [row for row in rows if row >= available]
    if beyond:
        raise ConfigurationError(
            f"expected {SETTING} below the {available} test inputs (they count from 0), found {beyond[0]}; leave it out"
        )
    return tuple(sorted(set(rows)))


def selected(shards: Sequence[Shard], rows: Sequence[int]) -> tuple[Shard, ...]:
    """Return shards that hold some rows of these alone, by positions from 0; shards without any are left out."""
    found: list[Shard] = []
    for shard in shards:
        here = tuple(row for row in rows if shard.start <= row < shard.stop)
        if here:
            start = found[-1].stop if found else 0
            chosen = Chosen(shard.start, here)
            found.append(replace(shard, index=len(found), start=start, stop=start + len(here), chosen=chosen))
    return tuple(found)


def rows_at(chosen: Sequence[int] | None, positions: Tensor) -> Tensor:
    """Return the rows of the test part, int64, at positions among the ``chosen`` ones; None: all are."""
    return positions if chosen is None else torch.tensor(chosen)[positions]


def misclassified_rows(source: Source, shards: Sequence[Shard]) -> tuple[int, ...]:
    """Return the labelled rows whose label is not the one that the trained model predicts.

    Raises ConfigurationError for a task without classes, and where no row is misclassified.
    """
    task = source.load_task()
    if task.likelihood.classes is None:
        raise ConfigurationError(
            f"expected a task that predicts classes for {SETTING} = {MISCLASSIFIED}, found {task.name!r}, which does "
            f"not; name rows by their numbers"
        )
    model, wrong = source.load_model(task), list[Tensor]()
    for shard in shards:
        examples = source.examples(task, shard)
        for start in range(0, len(examples), ROWS_AT_ONCE):
            some = examples.rows(start, min(start + ROWS_AT_ONCE, len(examples)))
            with torch.no_grad():
                outputs = run_model(model, some.inputs, first_index=some.first_index)
            predicted = task.likelihood.explained(outputs, some.targets, "predicted")
            places = ((predicted != some.targets) & (some.targets != UNLABELLED)).nonzero().flatten()
            wrong.append(places + some.first_index)
    rows = tuple(torch.cat(wrong).tolist())
    if not rows:
        raise ConfigurationError(
            f"expected misclassified test inputs for {SETTING} = {MISCLASSIFIED}, found none: the model predicts every "
            f"label; leave the setting out, or name rows by their numbers"
        )
    return rows


def _by_identifier(run: Run, identifiers: Sequence[str]) -> list[int]:
    if not identifiers:
        return []
    if run.dataset.description.id_column is None:
        raise ConfigurationError(
            f"expected {SETTING} as row numbers where data.id_column names no column, found {identifiers[0]!r}; "
            f"give numbers, or name the column"
        )
    wanted, places = set(identifiers), dict[str, int]()
    for row, name in enumerate(read_ids(run.data, run.dataset, "test", run.test_rows)):
        if name in wanted:
            if name in places:
                raise DataError(
                    f"expected one test input called {name!r}, found rows {places[name]} and {row}; give row numbers "
                    f"in {SETTING}"
                )
            places[name] = row
    unknown = [name for name in identifiers if name not in places]
    if unknown:
        raise ConfigurationError(
            f"expected identifiers of test inputs in {SETTING}, found {unknown[0]!r}, which none has; correct it"
        )
    return [places[name] for name in identifiers]
