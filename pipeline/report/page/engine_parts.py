"""Whether a page has what the query engine adds, and those parts for the inputs of a page."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from relatif.pipeline.console import say
from relatif.pipeline.devices import Tell, tell_nobody
from relatif.pipeline.evaluations.label_queue import label_queue, without_queue
from relatif.pipeline.explaining.class_sums import summed_influence
from relatif.pipeline.explaining.engine import Engine
from relatif.pipeline.explaining.examples import ExplainedExamples
from relatif.pipeline.report.page.both_labels import both_labels
from relatif.pipeline.report.page.corrections import RANKS as CORRECTED_RANKS
from relatif.pipeline.report.page.corrections import corrected_within, outputs_of, why_not, with_corrections
from relatif.pipeline.report.page.costs import FREE, Costs, costs_of
from relatif.pipeline.report.page.deepening import (
    FORWARD_AND_BACKWARD,
    GRADIENT_STORE,
    Size,
    deepened,
    engine_for,
    rounding_note,
    size_of_run,
)
from relatif.pipeline.report.page.geometry import geometry
from relatif.pipeline.report.page.lists import Explanation
from relatif.pipeline.report.page.page import Chosen
from relatif.pipeline.report.page.sources import Source
from relatif.pipeline.report.page.splitting import RANKS as SPLIT_RANKS
from relatif.pipeline.report.page.splitting import has_parts, split_within, with_parts
from relatif.pipeline.report.page.whole import few_classes, summed
from relatif.pipeline.runs.run import Run
from relatif.schemas.errors import RelatifError

ADDED = "all scores' histograms, who harms by every method, places by distance and corrected effects"


LONGEST_PASS = 500_000_000_000
"""Counted operations of a pass over the training set that a page may make: about a minute of one processor core."""


@dataclass(frozen=True, eq=False)
class EngineParts:
    """The engine of a run, None where its page is made from the tables alone; ``note`` says why on the page.

    ``labels`` are labels to look at, None without classes; ``tell`` hears how far the page is.
    """

    size: Size
    engine: Engine | None
    note: str = ""
    labels: Mapping[str, Any] | None = None
    costs: Costs = FREE
    tell: Tell = tell_nobody


def engine_parts(run: Run, tell: Tell = tell_nobody) -> EngineParts:
    """Return the engine where gradients are stored or a pass over the training set is small, else why there is none.

    A model that can't be loaded any more costs these parts, not the page.
    """
    size = size_of_run(run)
    try:
        engine = engine_for(run, size)
    except RelatifError as error:
        say(f"report: made from the tables alone, as the model can't be loaded: {error}")
        return EngineParts(size, None, f"; made from the tables alone, without {ADDED}, as the model can't be loaded")
    if engine is not None:
        costs = costs_of(engine, size)
        if size.is_small and size.examples * costs.example > LONGEST_PASS:
            # Its few parameters are used many times: kept gradients are read instead, or nothing is added.
            size = replace(size, parameters=costs.example // FORWARD_AND_BACKWARD)
            engine = engine_for(run, size)
    if engine is not None:
        tell(None, "labels to look at")
        labels = None if without_queue(run) is not None else label_queue(engine.by_kept()).as_json()
        return EngineParts(size, engine, labels=labels, costs=costs, tell=tell)
    if size.iterative:
        return EngineParts(size, None, f"; {ADDED} need a curvature in eigen form")
    return EngineParts(size, None, f"; {GRADIENT_STORE} adds {ADDED}")


def deepen(source: Source, parts: EngineParts, chosen: Chosen) -> Chosen:
    """Return what a page shows with what the engine adds to it."""
    if parts.engine is None or not len(chosen.places):
        return replace(chosen, note=parts.note)
    queries = parts.engine.rows("test", source.tables.test.index[chosen.places].tolist())
    parts.tell(None, f"all scores of {len(queries):,} inputs")
    every: list[Explanation] = deepened(source, queries, chosen.explanations, parts.engine, parts.size)
    every, uncorrected = _corrected(source, chosen, every, parts)
    every, unsplit = _split(source, queries, every, parts)
    parts.tell(None, "what all of the inputs say together")
    by_class = class_influence(source, chosen.places, queries, parts.engine) if parts.size.is_small else None
    note = rounding_note(parts.engine) + uncorrected + unsplit
    panels = {
        "geometry": geometry(source, chosen.places, parts.engine),
        "both_labels": both_labels(source, parts.engine.by_kept()),
    }
    shown = {name: panel for name, panel in panels.items() if panel is not None}
    return replace(chosen, explanations=every, note=note, labels=parts.labels, by_class=by_class, panels=shown)


def _corrected(
    source: Source, chosen: Chosen, every: list[Explanation], parts: EngineParts
) -> tuple[list[Explanation], str]:
    """Return explanations with corrected effects, as many as are cheap, and what the page says of those without."""
    assert parts.engine is not None
    reason = why_not(source.run, parts.engine)
    if reason is not None:
        return every, f"; effects are not corrected, as {reason}"
    shown = corrected_within(every, parts.size, outputs_of(source.run), parts.costs)
    every = with_corrections(
        source,
        chosen.places,
        every,
        parts.engine,
        shown,
        lambda done, of: parts.tell(None, f"corrected {done:,} of {of:,} effects"),
    )
    return every, shown.note("corrected effects", len(every), CORRECTED_RANKS[0])


def _split(
    source: Source, queries: ExplainedExamples, every: list[Explanation], parts: EngineParts
) -> tuple[list[Explanation], str]:
    """Return explanations with scores in parts, as many as are cheap, and what the page says of those without."""
    assert parts.engine is not None
    if not has_parts(source.run, parts.engine):
        return every, ""
    shown = split_within(every, parts.costs)
    every = with_parts(
        source,
        queries,
        every,
        parts.engine,
        shown,
        lambda done, of: parts.tell(None, f"split the scores of {done:,} of {of:,} inputs"),
    )
    return every, shown.note("scores in parts", len(every), SPLIT_RANKS[0])


def class_influence(
    source: Source, places: NDArray[np.int64], queries: ExplainedExamples, engine: Engine
) -> dict[str, Any] | None:
    """Return influence / n summed by class over inputs by place, in a pass over the training set; None without classes.

    Exact, where stored gradients would be rounded.
    """
    run, tables = source.run, source.tables
    known = few_classes(run, tables)
    if known is None:
        return None
    explained, labels = (torch.from_numpy(np.asarray(each, np.int64)) for each in known)
    count = len(run.dataset.class_names)
    sums = summed_influence(engine, queries, explained[torch.from_numpy(places)], labels, count)
    return summed(run, (sums / run.train_rows).numpy(), "page")
