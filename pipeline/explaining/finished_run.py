"""A finished run in Python, without Ray: its settings, data and tables, and explanations of any input."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from numbers import Integral
from typing import TYPE_CHECKING, Any

from relatif.pipeline.runs.opening import open_finished
from relatif.pipeline.runs.run import Run
from relatif.schemas.methods import in_order

if TYPE_CHECKING:
    from relatif.pipeline.explaining.engine import Engine
    from relatif.pipeline.explaining.explanation import Explanation
    from relatif.pipeline.explaining.helpers import Described
    from relatif.pipeline.explaining.query import Query


@dataclass(frozen=True)
class FinishedRun(Run):
    """A run that explains. What explanations need is loaded with the first one and kept for the next."""

    @cached_property
    def engine(self) -> "Engine":
        """The query engine of this run, on all cores."""
        # Imported here, so that whoever opens a run to read its tables does not wait for it.
        from relatif.pipeline.console import say  # noqa: PLC0415
        from relatif.pipeline.explaining.engine import load_engine  # noqa: PLC0415

        return load_engine(self, say=say)

    @cached_property
    def _described(self) -> "Described":
        from relatif.pipeline.explaining.helpers import described  # noqa: PLC0415

        return described(self)

    def explain(
        self,
        x: Any,
        label: str | int | None = None,
        *,
        methods: Sequence[str] | None = None,
        top: int = 10,
        harms: int = 0,
        without_itself: bool = False,
    ) -> "Explanation":
        """Return which training examples explain an input: the ``top`` by each method, and ``harms`` that harm.

        ``x`` is the row of a test input, a text, a row of a table as a dict, a picture of pillow, tensors as the data
        store an input, or a ``Query``. ``label`` is what is explained: ``predicted``, ``true``, a class by its name, or
        the number of a class or output; by default what the run explained. ``methods`` are by default those of the run.
        A training example stays among its own explanations unless ``without_itself``.
        """
        from relatif.pipeline.explaining.explanation import Wanted, explanation  # noqa: PLC0415
        from relatif.pipeline.explaining.given import label_of  # noqa: PLC0415

        names = in_order(self.config.score.methods if methods is None else methods)
        wanted = Wanted(names, top, harms, without_itself=without_itself)
        chosen = label_of(self, label) if isinstance(label, str) else label
        return explanation(self.engine, self._described, as_query(self, x), wanted, chosen)


def as_query(run: Run, x: Any) -> "Query":
    """Return what was given as a query; raises as ``given`` does where it is no input of the run."""
    from relatif.pipeline.explaining.given import given  # noqa: PLC0415
    from relatif.pipeline.explaining.query import TEST, Query, query_of_row  # noqa: PLC0415

    if isinstance(x, Query):
        return x
    whole = isinstance(x, Integral) and not isinstance(x, bool)
    return query_of_row(run, TEST, int(x)) if whole else given(x, run).query


def open_finished_run(out: str | os.PathLike[str]) -> FinishedRun:
    """Return the run in ``out``, finished or not, with the settings and the data that it was begun with.

    Raises MissingStageError where no run was recorded there, DataError where its data is no longer there or is another.
    """
    run = open_finished(os.fspath(out))
    return FinishedRun(**{each.name: getattr(run, each.name) for each in fields(run)})
