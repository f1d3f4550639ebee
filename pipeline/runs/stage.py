"""A stage as a value: its name, what it depends on, and its work.

A stage depends on its settings and those of the stages before it, on what those left, on the data, and on the code that
it runs. All of that is one digest, which its proof carries.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar, cast

from relatif.pipeline.cluster.session import Cluster
from relatif.pipeline.cluster.tasks import gather, submit
from relatif.pipeline.console import say
from relatif.pipeline.runs.durable import Made, Origin, Piece, prove, proven
from relatif.pipeline.runs.run import PARTS, Run
from relatif.pipeline.runs.whole import damaged_units, kept_outputs, require_only
from relatif.pipeline.storage.manifests import require_whole
from relatif.schemas.digests import VERSION, digest
from relatif.schemas.errors import MissingStageError
from relatif.schemas.manifest import Manifest

Value = TypeVar("Value")


def _nothing(_: Run) -> None:
    """Accept all settings, with nothing to report; add no definitions."""


def _no_modules(_: Run) -> tuple[str, ...]:
    """Add no modules to those that are imported."""
    return ()


def _no_files(_: Run) -> Mapping[str, str]:
    """Read no files but the run's own and its data."""
    return {}


@dataclass(frozen=True)
class Stage:
    """One stage.

    ``after`` are the stages whose results it needs. ``settings`` name the settings that it reads beside theirs, in full
    or by a prefix that ends in ``.`` or ``_``. ``manifest`` is the path of its proof. The result of a ``lasting`` stage
    is refused under changed settings or code; any other is made anew. ``work_folder`` holds the proofs of its units
    until it ends, ``kept_folders`` hold those of units that stay for later. ``check(run)`` raises a RelatifError,
    before any work, for settings, data or a task that it can't meet, and returns what it found, if that belongs into
    the record. ``modules(run)`` are modules that the settings choose and that the stage does not import itself.
    ``definitions(run)`` are the entries of a registry that it uses: only they count for its code, not the others.
    ``parts`` are those of the data that it reads. A change of settings ``renewed_by``, or of a part that no stage
    before it reads, is taken into a finished run: the stage's results, and all made from them, are made anew in place.
    ``files(run)`` are the SHA-256 of files that it reads beside the run's own and its data, by their addresses.
    """

    name: str
    work: Callable[["StageRun"], Made]
    manifest: str
    settings: tuple[str, ...] = ()
    after: tuple["Stage", ...] = ()
    lasting: bool = False
    work_folder: str | None = None
    kept_folders: tuple[str, ...] = ()
    check: Callable[[Run], Mapping[str, Any] | None] = _nothing
    modules: Callable[[Run], tuple[str, ...]] = _no_modules
    definitions: Callable[[Run], object] = _nothing
    files: Callable[[Run], Mapping[str, str]] = _no_files
    parts: tuple[str, ...] = PARTS
    renewed_by: tuple[str, ...] = ()

    @property
    def before(self) -> tuple["Stage", ...]:
        """All stages that come before this one, directly or not, in order."""
        return stages_before(self.after)

    @property
    def all_settings(self) -> tuple[str, ...]:
        """Settings of this stage and of those before it."""
        return tuple(name for stage in (*self.before, self) for name in stage.settings)

    def code(self, run: Run) -> str:
        """Return the digest of the code that the stage runs: this project's, and the task's."""
        code, definitions = run.code(self.work.__module__, *self.modules(run)), self.definitions(run)
        # Cut to the length of a code digest, whose place it takes in tables and records.
        return code if definitions is None else digest([code, definitions])[: len(code)]


@dataclass(frozen=True)
class Proofs:
    """The proofs of a run's stages, each read once, as the contents of what it names are hashed once.

    ``findings`` are what checks before any work found, by stage; ``claims`` are those of all drivers that had
    work to do, this one's too if it has.
    """

    run: Run
    found: dict[str, Manifest] = field(default_factory=dict)
    findings: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    claims: list[str] = field(default_factory=list)
    # What is taken into a finished run in place: lines, by the stage that is renewed for it.
    taken: dict[str, tuple[str, ...]] = field(default_factory=dict)
    # Names of stages that were looked for in vain, until a stage before them is made.
    absent: set[str] = field(default_factory=set)
    # Names of stages that were made here: what they left is hashed when a later stage is going to read it.
    unread: set[str] = field(default_factory=set)
    _kept: dict[str, Mapping[str, str]] = field(default_factory=dict)

    def find(self, stage: Stage) -> Manifest | None:
        """Return a stage's proof, or None where it, or one before it, is not finished with today's settings.

        Raises StorageError where its tables' folders hold other files too: readers would take them for parts.
        """
        if stage.name not in self.found and stage.name not in self.absent:
            proof = self._look(stage)
            if proof is None:
                self.absent.add(stage.name)
            else:
                self.found[stage.name] = proof
        return self.found.get(stage.name)

    def _look(self, stage: Stage) -> Manifest | None:
        # A stage's digest names the results of those before it, so without theirs it has none.
        if any(self.find(each) is None for each in stage.after):
            return None
        proof = proven(self.run.store, self.unit(stage))
        if proof is None or damaged_units(self.run.store, stage.kept_folders):
            return None
        require_only(self.run.store, stage.manifest, proof.outputs)
        return proof

    def need(self, stage: Stage) -> Manifest:
        """Return a stage's proof; MissingStageError where it is not finished."""
        proof = self.find(stage)
        if proof is None:
            raise MissingStageError(
                f"expected the finished result of stage {stage.name!r} in {self.run.store.describe()}, found none made "
                f"with these settings; run relatif {stage.name} with the same options first"
            )
        return proof

    def unit(self, stage: Stage) -> Piece:
        """Return a stage as a unit of durable work; the stages before it must be finished."""
        # By what the stages before left: a result that is made again with the same bytes changes nothing here.
        depends = {each.name: list(self.need(each).hashes) for each in stage.after}
        settings, code, files = stage.all_settings, stage.code(self.run), stage.files(self.run)
        if files:
            depends["files"] = list(files.values())  # their contents: they may lie elsewhere
        digest = self.run.digest(stage.name, settings=settings, code=code, parts=stage.parts, **depends)
        return Piece(stage.name, stage.manifest, digest)

    def kept(self, stage: Stage) -> Mapping[str, str]:
        """Return the SHA-256, by path, of files that a stage may only make again with the same bytes.

        These are the first stage's, where others were made from them. Raises ChangedRunError where those would not hold
        for what the stage leaves today.
        """
        if stage.after:
            return {}
        if stage.name not in self._kept:
            unit = self.unit(stage)
            self._kept[stage.name] = kept_outputs(self.run.store, unit.name, unit.manifest, unit.digest)
        return self._kept[stage.name]

    def make(self, stage: Stage, cluster: Cluster) -> Manifest:
        """Do a stage's work and prove it.

        Raises MissingStageError where a stage before it is not finished, StorageError where one of them left what is no
        longer as it was written, and ChangedRunError where what later results were made from would be replaced.
        """
        proofs = {each.name: self._readable(each) for each in stage.before}
        unit = self.unit(stage)
        # Units whose proofs are damaged are made again where they are needed, as any that are missing.
        for path, fault in damaged_units(self.run.store, stage.kept_folders).items():
            say(f"{stage.name}: {fault}: made again where it is needed")
            self.run.store.delete(path)
        context = StageRun(self.run, cluster, proofs, stage, unit.digest, self.kept(stage))
        origin = Origin(self.run.settings(stage.settings), {name: proof.hashes for name, proof in proofs.items()})
        self.found[stage.name] = prove(self.run.store, unit, lambda: stage.work(context), origin)
        self.unread.add(stage.name)
        self.absent.clear()
        if stage.work_folder is not None:
            self.run.store.delete(stage.work_folder)  # the stage's own proof now stands for them
        return self.found[stage.name]

    def _readable(self, stage: Stage) -> Manifest:
        """Return the proof of a stage whose files are read now: those that were made here are hashed first."""
        proof = self.need(stage)
        if stage.name in self.unread:
            require_whole(self.run.store, proof.outputs)
            self.unread.remove(stage.name)
        return proof


@dataclass(frozen=True)
class StageRun:
    """What a stage's work gets: the run, the cluster, the proofs of the stages before it, and its own digest.

    ``kept`` are the SHA-256, by path, of files that may only be made again with the same bytes.
    """

    run: Run
    cluster: Cluster
    proofs: Mapping[str, Manifest]
    stage: Stage
    digest: str
    kept: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def code(self) -> str:
        """Digest of the code that the stage runs."""
        return self.stage.code(self.run)

    @property
    def code_version(self) -> str:
        """The distribution's version with the digest of the stage's code, as tables give it."""
        return f"{VERSION}+{self.code}"

    @property
    def checkpoint(self) -> str:
        """SHA-256 of the trained model."""
        return self.proofs["train"].outputs[0].sha256

    def unit_digest(self, **depends: Any) -> str:
        """Return the digest of a unit of this stage, which depends on all that the stage does and on ``depends``."""
        names = self.stage.all_settings
        depends["stage_digest"] = self.digest
        return self.run.digest(self.stage.name, settings=names, code=self.code, parts=self.stage.parts, **depends)

    def shared_digest(self, what: str, module: str, **depends: Any) -> str:
        """Return the digest of a unit that depends on the stages before this one and on the code of ``module``.

        This stage's own settings and code don't count, so that several stages can share the unit.
        """
        names = tuple(name for stage in self.stage.before for name in stage.settings)
        results = {name: list(proof.hashes) for name, proof in self.proofs.items()}
        return self.run.digest(what, settings=names, code=self.run.code(module), results=results, **depends)

    def on_worker(self, function: Callable[[], Value]) -> Value:
        """Call a function on a worker with one core and return what it returns."""
        retries = self.cluster.limits.retries
        task = submit(function, name=f"{self.stage.name} tables", retries=retries)
        (value,) = gather([task], title=self.stage.name, limits=self.cluster.limits)
        return cast(Value, value)


def stages_before(stages: Sequence[Stage]) -> tuple[Stage, ...]:
    """Return stages and all that come before them, each once, in order."""
    found = [each for stage in stages for each in (*stage.before, stage)]
    # A stage that several others need comes once, at its first place.
    return tuple({stage.name: stage for stage in found}.values())
