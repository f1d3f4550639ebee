"""What differs between a run as it was begun and as it is asked for now: what is refused, and what is taken in.

Results of the score stage are made anew in place for another choice of what is explained; what stands before it is
never touched by that.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from relatif.pipeline.console import say
from relatif.pipeline.runs.opening import Record
from relatif.pipeline.runs.run import Run, matches
from relatif.pipeline.runs.stage import Stage
from relatif.pipeline.runs.whole import whole_manifest
from relatif.pipeline.storage.store import Store
from relatif.schemas import run_directory
from relatif.schemas.config import flatten


@dataclass(frozen=True)
class Changes:
    """Differences of one stage, a line for each: those that its results do not outlive, and those they are renewed for.

    Both are empty where nothing changed.
    """

    refused: tuple[str, ...] = ()
    taken: tuple[str, ...] = ()


def changes_of(run: Run, stage: Stage, recorded: Record) -> Changes:
    """Return what differs from the record: the stage's own settings, its code, and the data and files that it reads."""
    before, after = recorded.settings, flatten(run.config)
    refused: list[str] = []
    taken: list[str] = []
    for key, value in after.items():
        if matches(key, stage.settings) and before.get(key) != value:
            line = f"{key}: was {before.get(key)!r}, is now {value!r}"
            (taken if matches(key, stage.renewed_by) else refused).append(line)
    refused += _unlike(_identities(run, stage, recorded))
    parts = () if stage.after == () else tuple(part for part in stage.parts if _is_new(part, stage))
    found = {f"data fingerprint of {part}": (recorded.parts.get(part), run.part(part)) for part in parts}
    taken += _unlike((what, pair) for what, pair in found.items() if pair[0] is not None)
    return Changes(tuple(refused), tuple(taken))


def retire_later(store: Store, stage: Stage) -> None:
    """Remove the results of stages that were made from a stage's, before that one is renewed: they would be stale."""
    for path in store.list(run_directory.WORK, ".json"):
        proof = whole_manifest(store, path)
        if proof is not None and stage.name in proof.made_from:
            # The proof first: what is left of its results is then nobody's.
            store.delete(path)
            for output in proof.outputs:
                store.delete(output.path)
    store.delete(run_directory.REPORT.partition("/")[0])


def tell_taken(store: Store, stage: Stage, lines: Sequence[str]) -> None:
    """Say what is taken into a run in place, and what stays as it is."""
    kept = " and ".join(each.name for each in stage.before)
    for line in lines:
        say(f"{line}: taken into {store.describe()} in place, from stage {stage.name} on; {kept} stay as they are")


def _identities(run: Run, stage: Stage, recorded: Record) -> Iterator[tuple[str, tuple[str | None, str | None]]]:
    """Yield what decides a stage beside settings, in words, with its recorded and its present fingerprint."""
    # Settings choose code, too: only what today's code is for the recorded settings tells whether code changed.
    as_recorded = replace(run, config=recorded.config.model_copy(update={"task": run.config.task}))
    yield f"code of stage {stage.name}", (recorded.code.get(stage.name), stage.code(as_recorded))
    if stage.after:
        return
    whole = recorded.parts.get("train") is None
    yield (
        "data fingerprint",
        ((recorded.fingerprint, run.dataset.fingerprint) if whole else (recorded.parts["train"], run.part("train"))),
    )
    before, now = recorded.files, stage.files(run)
    # Files may have moved; what they hold decides.
    if list(before.values()) != list(now.values()):
        yield from ((f"file {each}", (before.get(each), now.get(each))) for each in (*before, *now))


def _is_new(part: str, stage: Stage) -> bool:
    """Return whether a stage is the first that reads a part of the data."""
    return not any(part in each.parts for each in stage.before)


def _unlike(pairs: Iterator[tuple[str, tuple[str | None, str | None]]]) -> list[str]:
    # A file may be named twice: as it was, and as it is.
    lines = [f"({what}): was {old!r}, is now {new!r}" for what, (old, new) in pairs if old != new]
    return list(dict.fromkeys(lines))
