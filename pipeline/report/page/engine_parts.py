"""Whether a page has what the query engine adds, and those parts for the inputs of a page."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from relatif.pipeline.console import say
from relatif.pipeline.evaluations.label_queue import label_queue, without_queue
from relatif.pipeline.explaining.class_sums import summed_influence
from relatif.pipeline.explaining.engine import Engine
from relatif.pipeline.explaining.examples import ExplainedExamples
from relatif.pipeline.report.page.both_labels import both_labels
from relatif.pipeline.report.page.corrections import with_corrections
from relatif.pipeline.report.page.deepening import (
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
from relatif.pipeline.report.page.splitting import with_parts
from relatif.pipeline.report.page.whole import few_classes, summed
from relatif.pipeline.runs.run import Run
from relatif.schemas.errors import RelatifError

ADDED = "all scores' histograms, who harms by every method, places by distance and corrected effects"


@dataclass(frozen=True, eq=False)
class EngineParts:
    """The engine of a run, None where its page is made from the tables alone; ``note`` says why on the page.

    ``labels`` are labels to look at, None without classes.
    """

    size: Size
    engine: Engine | None
    note: str = ""
    labels: Mapping[str, Any] | None = None


def engine_parts(run: Run) -> EngineParts:
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
        labels = None if without_queue(run) is not None else label_queue(engine.by_kept()).as_json()
        return EngineParts(size, engine, labels=labels)
    if size.iterative:
        return EngineParts(size, None, f"; {ADDED} need a curvature in eigen form")
    return EngineParts(size, None, f"; {GRADIENT_STORE} adds {ADDED}")


def deepen(source: Source, parts: EngineParts, chosen: Chosen) -> Chosen:
    """Return what a page shows with what the engine adds to it."""
    if parts.engine is None or not len(chosen.places):
        return replace(chosen, note=parts.note)
    queries = parts.engine.rows("test", source.tables.test.index[chosen.places].tolist())
    every: list[Explanation] = deepened(source, queries, chosen.explanations, parts.engine, parts.size)
    every = with_corrections(source, chosen.places, every, parts.engine, parts.size)
    every = with_parts(source, queries, every, parts.engine, parts.size)
    by_class = class_influence(source, chosen.places, queries, parts.engine) if parts.size.is_small else None
    note = rounding_note(parts.engine)
    panels = {
        "geometry": geometry(source, chosen.places, parts.engine),
        "both_labels": both_labels(source, parts.engine.by_kept()),
    }
    shown = {name: panel for name, panel in panels.items() if panel is not None}
    return replace(chosen, explanations=every, note=note, labels=parts.labels, by_class=by_class, panels=shown)


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
