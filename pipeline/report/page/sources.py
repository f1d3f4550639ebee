"""What pages of a run are made of, read once: its tables, what they say together, how its examples look."""

from dataclasses import dataclass

from relatif.pipeline.report.page.choosing import Story, chosen_story
from relatif.pipeline.report.page.media import Look, look_of
from relatif.pipeline.report.page.tables import PageTables, read_tables
from relatif.pipeline.report.page.whole import Counted, counted
from relatif.pipeline.runs.run import Run
from relatif.schemas.methods import explaining


@dataclass(frozen=True, eq=False)
class Source:
    """What pages of a run are made of: its tables, what they say together, how its examples look."""

    run: Run
    tables: PageTables
    methods: tuple[str, ...]
    counts: Counted
    look: Look
    story: Story | None


def source_of(run: Run) -> Source:
    """Read a finished run's tables; raises as ``read_tables``."""
    tables = read_tables(run)
    methods = explaining(tables.methods)
    look = look_of(run.dataset.description, run.config.data.input_columns)
    return Source(run, tables, methods, counted(tables, methods), look, chosen_story(tables))
