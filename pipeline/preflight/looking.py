"""Every check that needs no work: settings of all stages, the model on a few examples, and that the plan fits."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from relatif.pipeline.cluster.session import joins_cluster
from relatif.pipeline.console import say
from relatif.pipeline.datasets.published import PREPARED, detect, read_source
from relatif.pipeline.devices import give_back_memory
from relatif.pipeline.preflight.opening import Reader, is_head, opened
from relatif.pipeline.preflight.plan import PLANNED, Plan, make_plan
from relatif.pipeline.preflight.standing import WARNING, standing
from relatif.pipeline.runs.opening import read_record
from relatif.pipeline.runs.run import Run
from relatif.pipeline.runs.running import Choice, examined
from relatif.pipeline.runs.stage import Stage, stages_before
from relatif.pipeline.stages.train import TRAIN
from relatif.pipeline.storage.store import open_store
from relatif.schemas.config import RunConfig
from relatif.schemas.errors import ClusterError


def look(run: Run, stages: Sequence[Stage]) -> Plan:
    """Make every check that a job of these stages makes before any work; return the plan, with its time.

    Raises what the checks raise. A cluster that would be joined is neither joined nor asked.
    """
    proofs = examined(run, stages) if _can_compare(run) else None
    findings = _checked(run, stages) if proofs is None else proofs.findings
    finished = [] if proofs is None else [stage.name for stage in stages if proofs.find(stage) is not None]
    here = [stage for stage in PLANNED if stage not in finished]
    with suppress(ClusterError):  # nobody there: what can be said is said of this machine
        here = [] if joins_cluster() else here
    return make_plan(run, findings=findings, finished=finished, timed=True, here=here)


def look_before_preparing(
    config: RunConfig, out: str, choose: Choice, known: Sequence[Stage], read: Reader = read_source
) -> dict[str, Any]:
    """Make the checks on the first rows of published data, before a run prepares it; return what they found, by stage.

    Nothing is done for other data. What would be refused in a run that was begun is refused now, with its data as it
    was. ``read`` reads what is published: the rows that are prepared of it begin with those that were looked at.
    """
    if detect(open_store(config.data.source)) == PREPARED:
        return {}
    with opened(config, out, read) as run:
        if not is_head(run):
            return {}
        if _can_compare(run):
            found = examined(run, choose(run), known=known).findings
            give_back_memory()
        else:
            found = _checked(run, [*known, *choose(run)])
        refuse_what_does_not_fit(run, PLANNED)
    return found


def refuse_what_does_not_fit(run: Run, stages: Sequence[str]) -> None:
    """Raise ConfigurationError where stages do not fit into this machine, and no cluster is there to take them."""
    if not joins_cluster() and set(stages) & set(PLANNED):
        make_plan(run, findings={}, here=stages)
        # A large model was tried in this process, which waits for workers from now on.
        give_back_memory()


def look_first(run: Run, stages: Sequence[str]) -> None:
    """Look at a run before its work: raise as ``refuse_what_does_not_fit``, and say how well an imported model does."""
    refuse_what_does_not_fit(run, stages)
    found = standing(run) if TRAIN.name in stages else None
    give_back_memory()
    for line in () if found is None else found.lines:
        say(line if line.startswith(WARNING) else f"model: {line}")


def _can_compare(run: Run) -> bool:
    """Return whether a run can be compared with what was recorded: data that is not prepared has no fingerprint.

    That of the training part is known where it stays as results were made from it.
    """
    if not is_head(run):
        return True
    recorded = read_record(run.store)
    return recorded is not None and recorded.parts.get("train") == run.part("train")


def _checked(run: Run, stages: Sequence[Stage]) -> dict[str, Any]:
    """Make the checks of stages and of those before them; return what they found, by stage."""
    found = {stage.name: stage.check(run) for stage in stages_before(stages)}
    give_back_memory()
    return {name: value for name, value in found.items() if value is not None}
