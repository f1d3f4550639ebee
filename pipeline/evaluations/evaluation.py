"""An evaluation of a finished run's explanations, as a value."""

from collections.abc import Callable
from dataclasses import dataclass

from relatif.pipeline.console import progress
from relatif.pipeline.runs.durable import Made
from relatif.pipeline.runs.run import Run
from relatif.pipeline.runs.stage import Stage, StageRun
from relatif.pipeline.stages.score import SCORE
from relatif.schemas import run_directory
from relatif.schemas.manifest import FileReceipt


def _none(_: Run) -> str | None:
    """Return None: every run can be evaluated so."""
    return None


def without_classes(run: Run) -> str | None:
    """Return the error message of a run whose task predicts no classes, for evaluations that need them."""
    if run.task.likelihood.classes is not None:
        return None
    return f"expected a task that predicts classes, found {run.config.task!r}, which does not; leave it out"


def without_training_examples(run: Run) -> str | None:
    """Return the error message of a run that scored another part than the training set, for what trains without some.

    Its candidates were never trained on, so none can be left out.
    """
    if run.config.data.scored is None:
        return None
    return (
        f"expected scores of the training set, whose examples can be left out, found data.scored = "
        f"{run.config.data.scored!r}; leave it out, or score the training set into another --out"
    )


def with_chosen_tests(run: Run) -> str | None:
    """Return the error message of a run that explains chosen test rows alone, for what counts them from 0."""
    if run.config.score.test_rows is None:
        return None
    return (
        f"expected every test input to be explained, found score.test_rows = {run.config.score.test_rows!r}; leave it "
        f"out, or use score.test_limit"
    )


def without_recipe(run: Run) -> str | None:
    """Return the error message of a run whose task says no way to train its model again."""
    if run.task.retrain is not None or run.task.train is not None:
        return None
    return (
        f"expected a recipe to train the model of task {run.task.name!r} again, found none; give the Task train, or a "
        f"retrain of its own"
    )


@dataclass(frozen=True)
class Evaluation:
    """One way to judge explanations: a stage that comes after score.

    ``obstacle(run)`` returns the error message of a run that can't be evaluated so: what was expected, what was found
    and what to do (None: it can). An evaluation that ``trains`` models is made only where the settings name it.
    """

    stage: Stage
    obstacle: Callable[[Run], str | None] = _none
    trains: bool = False

    @property
    def name(self) -> str:
        """The name that ``evaluate.what`` takes."""
        return self.stage.name


def evaluation_stage(
    name: str,
    work: Callable[[StageRun], Made],
    *,
    settings: tuple[str, ...] = (),
    kept_folders: tuple[str, ...] = (),
) -> Stage:
    """Return the stage of an evaluation, with the place of its proof."""
    proof = run_directory.stage_manifest(f"evaluate-{name}")
    return Stage(name, work, proof, settings=settings, after=(SCORE,), kept_folders=kept_folders)


def in_one_pass(stage: StageRun, write: Callable[[], FileReceipt]) -> Made:
    """Compute and publish an evaluation's only table by one call on a worker."""
    with progress(stage.stage.name, 1, unit="passes") as shown:
        receipt = stage.on_worker(write)
        shown.advance()
    return Made((receipt,))
