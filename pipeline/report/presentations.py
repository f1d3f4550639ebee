"""What the job ``evaluate`` prints of each evaluation, and the picture that it draws."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from relatif.pipeline.evaluations.mislabel_detection import detections
from relatif.pipeline.report.detection import draw_detection
from relatif.pipeline.report.evaluations import class_agreement_text, mislabel_detection_text
from relatif.pipeline.report.linear_datamodeling import draw_correlations, linear_datamodeling_text
from relatif.pipeline.report.tables import aligned
from relatif.pipeline.runs.run import Run
from relatif.pipeline.storage.parquet import read_table, table_metadata
from relatif.pipeline.storage.store import Store
from relatif.schemas import run_directory
from relatif.schemas.tables import CLASS_AGREEMENT, LINEAR_DATAMODELING, LINEAR_DATAMODELING_SCORE, MISLABEL_DETECTION


@dataclass(frozen=True)
class Picture:
    """Where a picture lies in a run, and what draws it as PNG from the run's tables."""

    path: str
    draw: Callable[[Run, Store], bytes]


@dataclass(frozen=True)
class Presentation:
    """``text(tables)`` is printed; ``picture`` is drawn, if there is one."""

    text: Callable[[Store], str]
    picture: Picture | None = None


PRESENTATIONS: Mapping[str, Presentation] = {
    "class_agreement": Presentation(lambda tables: class_agreement_text(read_table(tables, CLASS_AGREEMENT.name))),
    "mislabel_detection": Presentation(
        lambda tables: mislabel_detection_text(read_table(tables, MISLABEL_DETECTION.name)),
        Picture(
            run_directory.MISLABEL_DETECTION,
            lambda run, tables: draw_detection(detections(tables, run.dataset.labelling)),
        ),
    ),
    "linear_datamodeling": Presentation(
        lambda tables: linear_datamodeling_text(
            read_table(tables, LINEAR_DATAMODELING_SCORE.name), table_metadata(tables, LINEAR_DATAMODELING_SCORE.name)
        ),
        Picture(
            run_directory.LINEAR_DATAMODELING,
            lambda run, tables: draw_correlations(read_table(tables, LINEAR_DATAMODELING.name)),
        ),
    ),
}
"""Presentations by the evaluation's name; an evaluation without one is printed as its table."""


def present(run: Run, name: str) -> str:
    """Return the text of a finished evaluation, after its picture is drawn into the run."""
    tables = run.store.child(run_directory.TABLES)
    presentation = PRESENTATIONS.get(name) or Presentation(lambda tables: _as_it_is(tables, name))
    parts = [presentation.text(tables)]
    if presentation.picture is not None:
        path = presentation.picture.path
        run.store.publish_bytes(path, presentation.picture.draw(run, tables))
        parts.append(f"figure: {run.store.describe(path)}")
    return "\n\n".join(parts)


def _as_it_is(tables: Store, name: str) -> str:
    """Return the rows of the table that has the evaluation's name."""
    table = read_table(tables, name)
    rows = [[_cell(value) for value in row.values()] for row in table.to_pylist()]
    return f"{name}\n\n{aligned([table.schema.names, *rows], '<' * table.num_columns)}"


def _cell(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
