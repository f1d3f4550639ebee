"""What must not be mixed: foreign files among a stage's tables, and results whose checkpoint would be replaced."""

import posixpath
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from relatif.pipeline.storage.manifests import HASHING_THREADS, damage, parsed_manifest
from relatif.pipeline.storage.store import Store
from relatif.schemas import run_directory
from relatif.schemas.errors import ChangedRunError, StorageError
from relatif.schemas.manifest import FileReceipt, Manifest

PARQUET, PROOFS = ".parquet", ".json"


def foreign_parts(store: Store, outputs: Sequence[FileReceipt]) -> list[str]:
    """Return the Parquet files beside a stage's parts of tables that its proof does not name."""
    named = {output.path for output in outputs}
    folders = sorted({posixpath.dirname(path) for path in named if path.startswith(f"{run_directory.TABLES}/")})
    return [path for folder in folders for path in store.list(folder, PARQUET) if path not in named]


def require_only(store: Store, proof: str, outputs: Sequence[FileReceipt]) -> None:
    """Raise StorageError where tables have parts that the proof does not name: every reader would take them too."""
    others = foreign_parts(store, outputs)
    if others:
        raise StorageError(
            f"expected only the tables' parts that {store.describe(proof)} names, found "
            f"{', '.join(map(store.describe, others))} too; move that away, as readers take every file there"
        )


def is_proof(path: str) -> bool:
    """Return whether a path of a run is that of a proof: a JSON file that is neither a result nor a claim."""
    inside = path.split("/")[3:] if path.startswith(run_directory.curvature("")) else path.split("/")
    if path.startswith(f"{run_directory.CLAIMS}/") or "/".join(inside) == run_directory.COVERAGE:
        return False
    return path.endswith(PROOFS) and inside[0] in ("checkpoint", run_directory.FACTORS, run_directory.WORK)


def folder_of(proof: str) -> str:
    """Return the folder from which a proof's paths start: the run's, or that of another curvature inside of it."""
    return "/".join(proof.split("/")[:3]) if proof.startswith(run_directory.curvature("")) else ""


def damaged_units(store: Store, folders: Sequence[str]) -> dict[str, str]:
    """Return what is wrong with the units that a stage keeps in folders, by the paths of their proofs.

    A proof that is damaged counts, and one that names a file that is not as it was written.
    """
    every = [f"{folder}/{path}" for folder in folders for path in store.child(folder).walk()]
    paths = [path for path in every if is_proof(path)]
    with ThreadPoolExecutor(HASHING_THREADS) as pool:
        faults = dict(zip(paths, pool.map(lambda path: _unit_fault(store, path), paths), strict=True))
    return {path: fault for path, fault in faults.items() if fault is not None}


def _unit_fault(store: Store, path: str) -> str | None:
    proof = whole_manifest(store, path)
    if proof is None:
        return f"{store.describe(path)} is damaged"
    return "; ".join(damage(store.child(folder_of(path)), proof.outputs)) or None


def unknown_writers(store: Store, claims: Collection[str] | None) -> dict[str, str]:
    """Return who published stages' proofs without standing in the run's record: claims by the proofs' paths.

    ``claims`` are those of the record, None where it is of an earlier version or lost: then nobody is unknown. Proofs
    of checkpoint and factors may be copies from another run, so only those below work/ are looked at.
    """
    found = {} if claims is None else stage_claims(store)
    return {path: claim for path, claim in found.items() if claim not in (claims or ())}


def stage_claims(store: Store) -> dict[str, str]:
    """Return the claims of the stages' proofs below work/, by the proofs' paths."""
    proofs = {path: whole_manifest(store, path) for path in store.list(run_directory.WORK, ".json")}
    return {path: proof.claim for path, proof in proofs.items() if proof is not None and proof.claim is not None}


def require_known_writers(store: Store, claims: Collection[str] | None) -> None:
    """Raise StorageError where results of two runs are mixed, on a storage that could not keep the second one out."""
    unknown = {} if store.creates_exclusively else unknown_writers(store, claims)
    if unknown:
        raise StorageError(
            f"expected results of the runs that {store.describe(run_directory.RUN_JSON)} names, found "
            f"{', '.join(unknown)} by another one that wrote to {store.describe()} at the same time; choose another "
            f"--out and run again"
        )


def kept_outputs(store: Store, stage: str, manifest: str, digest: str) -> dict[str, str]:
    """Return the SHA-256, by path, that the outputs of the first ``stage`` must have when they are made again.

    None where nothing was made from them yet. Raises ChangedRunError where they were made for another digest: then
    later results stand on a checkpoint that today's settings, data, files or code would replace.
    """
    later = _made_from(store)
    if later is None:
        return {}
    recorded = whole_manifest(store, manifest)
    if recorded is None:
        # Its proof is lost or damaged; what was made from it tells the hashes.
        return dict(zip((run_directory.CHECKPOINT,), later.made_from.get(stage, ()), strict=False))
    if recorded.digest != digest:
        raise ChangedRunError(
            f"expected the result of stage {stage!r} in {store.describe()} to be that of today's settings, data, "
            f"files and code, found another, from which {later.work!r} was made; choose another --out; nothing was "
            f"touched"
        )
    return {output.path: output.sha256 for output in recorded.outputs}


def require_kept(kept: Mapping[str, str], path: str, sha256: str) -> None:
    """Raise ChangedRunError where a file that was made again is not the one that later results were made from."""
    if kept.get(path, sha256) != sha256:
        raise ChangedRunError(
            f"expected {path}, which was damaged or lost, to come out as it was (SHA-256 {kept[path]}), as later "
            f"results were made from it, found {sha256}; put a copy of the old file back or choose another --out; "
            f"nothing was replaced"
        )


def has_results(store: Store) -> bool:
    """Return whether a stage in a run's folder is finished."""
    proofs = (run_directory.CHECKPOINT_MANIFEST, run_directory.FACTORS_MANIFEST)
    return any(map(store.exists, proofs)) or bool(store.list(run_directory.WORK, PROOFS))


def _made_from(store: Store) -> Manifest | None:
    """Return the proof of a finished stage that was made from the first one's result, if there is any."""
    paths = [run_directory.FACTORS_MANIFEST, *store.list(run_directory.WORK, ".json")]
    found = (whole_manifest(store, path) for path in paths)
    return next((proof for proof in found if proof is not None and proof.made_from), None)


def whole_manifest(store: Store, path: str) -> Manifest | None:
    """Return a proof, None where it is missing or damaged."""
    data = store.find_bytes(path)
    try:
        return None if data is None else parsed_manifest(data)
    except ValueError:
        return None
