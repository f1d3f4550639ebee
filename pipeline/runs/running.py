"""Running stages in order: finished results are kept; those of other settings, data or code are refused."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from relatif.pipeline.cluster.session import Cluster, session
from relatif.pipeline.console import say
from relatif.pipeline.datasets.published import open_source
from relatif.pipeline.runs.changes import changes_of, retire_later, tell_taken
from relatif.pipeline.runs.opening import Opener, Record, open_out, open_run_in, read_record, require_description
from relatif.pipeline.runs.run import Run, record
from relatif.pipeline.runs.stage import Proofs, Stage, stages_before
from relatif.pipeline.runs.whole import require_known_writers, stage_claims
from relatif.pipeline.storage.claims import claimed
from relatif.pipeline.storage.store import Store
from relatif.schemas.config import RunConfig
from relatif.schemas.errors import ChangedRunError
from relatif.schemas.manifest import Manifest

Choice = Callable[[Run], Sequence[Stage]]
"""Returns the stages that are to be run, in order; ConfigurationError where the settings ask for what can't be made."""


Look = Callable[[Run, Sequence[str]], None]
"""Looks at a run and the names of the stages that it has to do, before anything is written; raises where it can't."""


def _nothing(_: Run, __: Sequence[str]) -> None:
    """Look at nothing."""


@dataclass(frozen=True)
class Before:
    """What a job does before its stages' work.

    ``look`` is called where a stage has work to do, before any; ``opener`` opens the data; ``found`` is what checks
    found already, by stage, on the same rows: they are not made again.
    """

    look: Look = _nothing
    opener: Opener = open_source
    found: Mapping[str, Any] = field(default_factory=dict)


BARE = Before()


def run_stages(
    config: RunConfig, out: str, choose: Choice, *, known: Sequence[Stage] = (), before: Before = BARE
) -> Run:
    """Run stages in order on the cluster that is there, or on one started here.

    ``known`` are further stages, whose results in ``out`` are checked against changed settings too. Raises a
    RelatifError that says what to do; what is finished by then stays and is not computed again.
    """
    with claimed(open_out(config, out), config.cluster.lease_s) as store:
        # What can be refused is refused before a Ray is started, which takes seconds.
        run = open_run_in(config, store, before.opener)
        stages = choose(run)
        proofs = begin(run, stages, known=known, before=before)
        if all(proofs.find(stage) is not None for stage in stages):
            # Nothing is left to do: that is told without a Ray.
            for stage in stages:
                _tell_finished(stage, proofs.need(stage))
        else:
            _run(proofs, stages, stages_before([*known, *stages]))
    # The claim is over: figures are drawn of what is finished.
    return replace(run, store=replace(run.store, claim=None), data=replace(run.data, claim=None))


def _run(proofs: Proofs, stages: Sequence[Stage], every: Sequence[Stage]) -> None:
    """Run stages in order on the cluster that is there, or on one started here."""
    with session(proofs.run.config.cluster) as cluster:
        for stage in stages:
            # Nodes may have joined or gone since the stage before.
            run_stage(proofs, stage, cluster.again())
            if not stage.after:
                # The first stage has left the checkpoint, whose fingerprint belongs into the record.
                _record(proofs, every)


def begin(run: Run, stages: Sequence[Stage], *, known: Sequence[Stage] = (), before: Before = BARE) -> Proofs:
    """Refuse a run with changed settings, data or code, check settings before any work, and record the configuration.

    Raises ChangedRunError where lasting results were made with other settings, data or code, and ConfigurationError for
    settings that can't be met. Returns the proofs, each of which is read once.
    """
    proofs, every = examined(run, stages, known=known, found=before.found), stages_before([*known, *stages])
    for stage in stages_before(stages):
        if stage not in stages:
            proofs.need(stage)
    pending = [stage.name for stage in stages_before(stages) if proofs.find(stage) is None]
    if pending:
        before.look(run, pending)
        # Whoever only finds what is finished publishes no proof.
        proofs.claims.extend([] if run.store.claim is None else [run.store.claim.token])
    for stage in every:
        if stage.name in proofs.taken:
            tell_taken(run.store, stage, proofs.taken[stage.name])
            # Before the record says otherwise: what was made from the old results is never beside the new ones.
            retire_later(run.store, stage)
    _record(proofs, every)
    return proofs


def examined(
    run: Run, stages: Sequence[Stage], *, known: Sequence[Stage] = (), found: Mapping[str, Any] = BARE.found
) -> Proofs:
    """Make every check of ``begin`` that writes nothing, and return the proofs with what the checks found.

    What is ``found`` already, by stage, is not checked again.
    """
    every = stages_before([*known, *stages])
    recorded = read_record(run.store)
    proofs = Proofs(run, claims=_claims(run.store, recorded))
    if recorded is not None:
        require_description(run, recorded)
        # Before a new record is written: a refused run stays untouched.
        _refuse_changes(proofs, recorded, stages, every)
    # Also of stages that run hours later: a setting that can't be met ends the run now.
    for stage in every:
        finding = found[stage.name] if stage.name in found else stage.check(run)
        if finding is not None:
            proofs.findings[stage.name] = finding
    return proofs


def run_stage(proofs: Proofs, stage: Stage, cluster: Cluster) -> Manifest:
    """Return a stage's proof: the one that is there, or that of the work that is now done."""
    proof = proofs.find(stage)
    if proof is None:
        return proofs.make(stage, cluster)
    _tell_finished(stage, proof)
    return proof


def _refuse_changes(proofs: Proofs, recorded: Record, asked: Sequence[Stage], every: Sequence[Stage]) -> None:
    """Raise ChangedRunError where a lasting stage, or one before it, has results that today's run would contradict.

    What is taken into the run in place instead is kept in ``proofs.taken``: the stage that is renewed has to be asked
    for, and nothing else may have changed.
    """
    run = proofs.run
    changes: dict[str, Sequence[str]] = {}
    for stage in every:
        if stage.lasting and _has_work(run.store, stage, every):
            found = changes_of(run, stage, recorded)
            changes[stage.name] = found.refused if stage in asked else (*found.refused, *found.taken)
            if stage in asked and found.taken:
                proofs.taken[stage.name] = found.taken
    if not any(changes.values()):
        return
    lines = [line for name, found in changes.items() for line in (*found, *proofs.taken.pop(name, ()))]
    # Named in the error: the first stage in order whose results no longer hold.
    changed = next(stage for stage in every if changes.get(stage.name))
    for stage in asked:
        # Whoever repeats a finished run sees which of its results still hold.
        proof = None if stage is changed or changed in stage.before else proofs.find(stage)
        if proof is not None:
            _tell_finished(stage, proof)
    listed = "\n".join(f"  {line}" for line in lines)
    raise ChangedRunError(
        f"expected what {run.store.describe()} was begun with, found changed for stage {changed.name!r}:\n{listed}\n"
        f"Choose another --out for the new settings, or set them back (code: check out that version) to continue "
        f"this run; nothing was touched."
    )


def _has_work(store: Store, stage: Stage, every: Sequence[Stage]) -> bool:
    """Return whether a stage, or a lasting one after it, has finished work."""
    # A later stage's finished work rests on this one's settings, even where this one left nothing.
    later = [each for each in every if each.lasting and (each is stage or stage in each.before)]
    return any(
        store.exists(each.manifest) or (each.work_folder is not None and store.list(each.work_folder, ".json"))
        for each in later
    )


def _record(proofs: Proofs, every: Sequence[Stage]) -> None:
    run, first = proofs.run, next(stage for stage in every if not stage.after)
    checkpoint = proofs.find(first)
    if checkpoint is None:
        proofs.kept(first)  # refused before the record is written, where what others were made from would be replaced
    code = {stage.name: stage.code(run) for stage in every if stage.lasting}
    audit = {"untrained": proofs.findings.get(first.name), "trained": checkpoint and _trained_audit(checkpoint)}
    told = {"audit": audit, "claims": proofs.claims}
    record(run, code, None if checkpoint is None else checkpoint.outputs[0].sha256, told)


def _trained_audit(checkpoint: Manifest) -> Any:
    """Return what the audit of the trained model found, None where the checkpoint's proof is of a time before it."""
    return json.loads(checkpoint.facts["audit"]) if "audit" in checkpoint.facts else None


def _claims(store: Store, recorded: Record | None) -> list[str]:
    """Return the claims of the drivers that recorded the run so far; a mixture is refused."""
    before = None if recorded is None else recorded.claims
    require_known_writers(store, before)
    known = stage_claims(store).values() if before is None else before
    return list(dict.fromkeys(known))


def _tell_finished(stage: Stage, proof: Manifest) -> None:
    say(f"{stage.name}: was finished earlier in {proof.seconds:.1f} s, as its manifest proves: not computed again")
