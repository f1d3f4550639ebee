"""Verifying a whole finished run by its proofs, without Ray: every file by its contents, and that all belong together.

What is looked at: every proof's own seal, the contents of all files that a proof names, tables' files that none names,
the record, the chain from each stage's proof to those that it was made from, and the settings of lasting stages.
"""

import json
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from relatif.pipeline.datasets.description import DATASET_JSON, read_description
from relatif.pipeline.runs.opening import Record, is_as_recorded, read_record
from relatif.pipeline.runs.whole import folder_of, is_proof, unknown_writers
from relatif.pipeline.storage.manifests import damage, parsed_manifest
from relatif.pipeline.storage.sealed import is_sealed
from relatif.pipeline.storage.store import Store, open_store
from relatif.schemas import run_directory
from relatif.schemas.errors import DataError, MissingStageError, StorageError
from relatif.schemas.manifest import FileReceipt, Manifest

WHOLE_RUN = {
    "train": run_directory.CHECKPOINT_MANIFEST,
    "factors": run_directory.FACTORS_MANIFEST,
    "score": run_directory.stage_manifest("score"),
    "statistics": run_directory.stage_manifest("statistics"),
}
"""The stages that a finished run has, with the paths of their proofs."""

LASTING = ("train", "factors", "score")
"""Stages whose results are refused under changed settings: the record's are theirs."""

PROVEN_FOLDERS = ("checkpoint", run_directory.FACTORS, run_directory.TABLES, run_directory.GRADIENTS)
"""Folders in which every file is named by a proof, or is one."""


@dataclass(frozen=True)
class Verified:
    """How many files were hashed, with their bytes, and every fault: a sentence that names the file.

    ``sealed`` is whether proofs carry a hash of themselves, which those of the earliest versions do not.
    """

    files: int
    bytes: int
    faults: tuple[str, ...]
    sealed: bool = True


@dataclass
class _Findings:
    """What was read on the way."""

    files: int = 0
    bytes: int = 0
    faults: list[str] = field(default_factory=list)

    def hash(self, store: Store, receipts: list[FileReceipt]) -> None:
        """Compare files with their receipts."""
        self.faults += damage(store, receipts)
        self.files += len(receipts)
        self.bytes += sum(receipt.bytes for receipt in receipts)


def verify_run(out: str) -> Verified:
    """Verify the finished run in ``out``, a path or URL: what is damaged, missing, foreign, or of another writer.

    Raises MissingStageError where no run lies there.
    """
    store, found = open_store(out), _Findings()
    paths = store.walk()
    if run_directory.RUN_JSON not in paths and not set(WHOLE_RUN.values()) & set(paths):
        raise MissingStageError(
            f"expected a run in {store.describe()}, found no {run_directory.RUN_JSON}; name the --out of a finished run"
        )
    recorded = _record(store, found)
    # One changed bit can't take the seals of the record and of a proof off.
    sealed = recorded is None or is_sealed(store.find_bytes(run_directory.RUN_JSON) or b"")
    proofs = _proofs(store, paths, found, sealed=sealed)
    found.faults += [
        f"{store.describe(path)} is missing: stage {stage} is not finished"
        for stage, path in WHOLE_RUN.items()
        if path not in paths
    ]
    _hash_outputs(store, proofs, found)
    found.faults += _foreign(store, paths, proofs)
    found.faults += [
        f"{store.describe(path)} was published by a run that {run_directory.RUN_JSON} does not name: results are mixed"
        for path in unknown_writers(store, None if recorded is None else recorded.claims)
    ]
    for folder, here in _runs(proofs).items():
        found.faults += _contradictions(store, folder, here, recorded)
    _verify_data(store, paths, recorded, found)
    return Verified(found.files, found.bytes, tuple(found.faults), sealed)


def _record(store: Store, found: _Findings) -> Record | None:
    try:
        recorded = read_record(store)
    except StorageError as error:
        found.faults.append(f"{store.describe(run_directory.RUN_JSON)} is damaged: {error}")
        return None
    if recorded is None:
        found.faults.append(f"{store.describe(run_directory.RUN_JSON)} is missing")
        return None
    found.files += 1
    return recorded


def _proofs(store: Store, paths: Sequence[str], found: _Findings, *, sealed: bool) -> dict[str, Manifest]:
    """Return all whole proofs by their paths; what is no proof below work/ is a fault.

    Where the record is not ``sealed``, as in the earliest versions, proofs need not be.
    """
    proofs = {}
    for path in paths:
        if not is_proof(path):
            continue
        data = store.find_bytes(path) or b""
        parse = parsed_manifest if sealed or is_sealed(data) else Manifest.model_validate_json
        try:
            proof = proofs[path] = parse(data)
            if proof.path is not None and posixpath.join(folder_of(path), proof.path) != path:
                found.faults.append(f"{store.describe(path)} is the proof that belongs at {proof.path}")
            found.files += 1
            found.bytes += len(data)
        except ValueError as error:
            found.faults.append(f"{store.describe(path)} is damaged: {error}")
    return proofs


def _hash_outputs(store: Store, proofs: Mapping[str, Manifest], found: _Findings) -> None:
    """Hash every file once that a proof names; two proofs that name one file differently contradict each other."""
    named: dict[str, FileReceipt] = {}
    for path, proof in proofs.items():
        for output in proof.outputs:
            receipt = output.model_copy(update={"path": posixpath.join(folder_of(path), output.path)})
            other = named.setdefault(receipt.path, receipt)
            if other.sha256 != receipt.sha256:
                found.faults.append(
                    f"{store.describe(receipt.path)} is named by several proofs, {store.describe(path)} among them, "
                    f"with different contents: results of several writers are mixed"
                )
    found.hash(store, list(named.values()))


def _foreign(store: Store, paths: Sequence[str], proofs: Mapping[str, Manifest]) -> Iterator[str]:
    """Yield the files among results that no proof names: readers of tables would take them."""
    named = {posixpath.join(folder_of(path), output.path) for path, proof in proofs.items() for output in proof.outputs}
    for path in paths:
        if path.partition("/")[0] in PROVEN_FOLDERS and path not in named and not is_proof(path):
            yield f"{store.describe(path)} is foreign: no proof names it"


def _runs(proofs: Mapping[str, Manifest]) -> dict[str, dict[str, Manifest]]:
    """Return the stages' proofs by name, for the run and for each curvature inside of it."""
    runs: dict[str, dict[str, Manifest]] = {}
    for path, proof in proofs.items():
        if proof.made_from or path.endswith(run_directory.CHECKPOINT_MANIFEST):
            runs.setdefault(folder_of(path), {})[proof.work] = proof
    return runs


def _contradictions(
    store: Store, folder: str, stages: Mapping[str, Manifest], recorded: Record | None
) -> Iterator[str]:
    """Yield where a stage was made from other results than those that are there, or with other settings."""
    for name, proof in stages.items():
        for before, hashes in proof.made_from.items():
            if before in stages and stages[before].hashes != hashes:
                yield (
                    f"results of stage {name} in {store.describe(folder)} were made from other results of stage "
                    f"{before} than those that are there: results of several runs are mixed"
                )
        if recorded is None or folder or name not in LASTING:
            continue
        for key, value in proof.settings.items():
            now = json.loads(json.dumps(recorded.settings.get(key)))
            if now != value:
                yield (
                    f"results of stage {name} were made with {key} = {value!r}, but "
                    f"{store.describe(run_directory.RUN_JSON)} says {now!r}: results of several runs are mixed"
                )


def _verify_data(store: Store, paths: Sequence[str], recorded: Record | None, found: _Findings) -> None:
    """Verify the data that was prepared into the run, where the run has such."""
    if not any(path.startswith(f"{run_directory.DATA}/") for path in paths):
        return
    data = store.child(run_directory.DATA)
    try:
        described = read_description(data)
    except DataError as error:
        found.faults.append(f"{data.describe(DATASET_JSON)} is damaged: {error}")
        return
    if recorded is not None and not (
        described.fingerprint == recorded.fingerprint and is_as_recorded(data, described, recorded)
    ):
        found.faults.append(f"{data.describe(DATASET_JSON)} is not the description that the run was begun with")
    parts = [part for split in described.splits.values() for part in split.files]
    found.files += 1
    found.hash(data, [FileReceipt(path=part.path, bytes=part.bytes, sha256=part.sha256) for part in parts])
    named = {DATASET_JSON, *(part.path for part in parts)}
    found.faults += [
        f"{data.describe(path)} is foreign: no proof names it" for path in data.walk() if path not in named
    ]
