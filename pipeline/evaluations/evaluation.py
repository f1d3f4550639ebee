"""What an evaluation of a finished run's explanations is, and the list of them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from relatif.pipeline.cluster.session import Resources
from relatif.pipeline.runs.run import Run
from relatif.pipeline.storage.store import Store
from relatif.schemas.config import EvaluationName
from relatif.schemas.manifest import FileReceipt


@dataclass(frozen=True)
class Evaluation:
    """One way to judge explanations, made after the score stage.

    ``obstacle(run)`` says why it can't be made of such a run, what was found and what to do (None: it can);
    ``evaluate(run, resources, metadata)`` leaves its tables and figures, ``metadata`` in the tables;
    ``text(tables)`` is what the job prints of the finished tables; ``trains`` says that it trains models, which is done
    only where it is named; ``figure`` is the path of its picture in the run, if it draws one.
    """

    name: EvaluationName
    obstacle: Callable[[Run], str | None]
    evaluate: Callable[[Run, Resources, Mapping[str, str]], list[FileReceipt]]
    text: Callable[[Store], str]
    trains: bool = False
    figure: str | None = None
