"""The report of a finished run: one page, made where it is missing or what it was made from has changed. No Ray.

It is proven as a stage is, beside the stages: its failure costs none of their results.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from importlib.resources import files

from relatif.pipeline.console import Progress, format_bytes, progress, say
from relatif.pipeline.report.page.document import document
from relatif.pipeline.report.page.engine_parts import deepen, engine_parts
from relatif.pipeline.report.page.fitting import fitted_page
from relatif.pipeline.report.page.sources import source_of
from relatif.pipeline.runs.code import code_digest
from relatif.pipeline.runs.durable import Made, Origin, Piece, prove, proven
from relatif.pipeline.runs.run import Run
from relatif.pipeline.runs.whole import whole_manifest
from relatif.pipeline.storage.claims import claimed
from relatif.pipeline.storage.store import Store
from relatif.schemas import run_directory
from relatif.schemas.digests import digest
from relatif.schemas.errors import MissingStageError

NAME = "report"
PROOF = run_directory.stage_manifest(NAME)
LAST = run_directory.stage_manifest("statistics")

ASSETS = "assets"


@dataclass(frozen=True)
class Report:
    """Where a run's page lies, and its size."""

    address: str
    bytes: int

    @property
    def text(self) -> str:
        """What a job prints last."""
        return f"report: {self.address} ({format_bytes(self.bytes)})"


def make_report(run: Run) -> Report:
    """Return the page of a run, which is made unless its proof stands for all that it depends on.

    Raises MissingStageError where the run's stages are not finished, ClaimError where another one writes to it.
    """
    if not run.store.exists(LAST):
        raise MissingStageError(
            f"expected a finished run in {run.store.describe()}, found no {LAST}; run relatif run with the same --out"
        )
    with claimed(run.store, run.config.cluster.lease_s):
        # A page is no result of the run's driver: its proof names no claim.
        store = replace(run.store, claim=None)
        depends = _depends(store)
        unit = Piece(NAME, PROOF, digest({"code": _code(), "run": _settings(run), "depends": depends}))
        proof = proven(store, unit)
        if proof is None:
            origin = Origin(made_from=_made_from(store))
            with progress(NAME, 1, unit="pages") as shown:
                proof = prove(store, unit, lambda: _page(replace(run, store=store), shown), origin)
                shown.advance()
        else:
            say(f"{NAME}: was finished earlier in {proof.seconds:.1f} s, as its manifest proves: not computed again")
    (page,) = proof.outputs
    return Report(run.store.describe(page.path), page.bytes)


def _page(run: Run, shown: Progress) -> Made:
    """Make the page and publish it."""

    def tell(share: float | None, text: str) -> None:
        shown.tell(share, text)
        shown.tick()

    source = source_of(run)
    data = fitted_page(source, deepen=partial(deepen, source, engine_parts(run, tell)))
    tell(None, "")
    html = document(data, title=f"{run.config.task}: influence report")
    return Made((run.store.publish_bytes(run_directory.REPORT, html.encode("utf-8")),))


def _depends(store: Store) -> dict[str, str]:
    """Return the SHA-256 of every stage's proof and of every picture that an evaluation left, by path."""
    proofs = [run_directory.CHECKPOINT_MANIFEST, run_directory.FACTORS_MANIFEST]
    proofs += [path for path in store.list(run_directory.WORK, ".json") if path != PROOF]
    pictures = store.list(run_directory.REPORT.partition("/")[0], ".png")
    found = {path: store.find_bytes(path) for path in (*proofs, *pictures)}
    return {path: hashlib.sha256(data).hexdigest() for path, data in found.items() if data is not None}


def _made_from(store: Store) -> dict[str, tuple[str, ...]]:
    """Return what the tables' stage left: where that is made anew, the page is removed with what else is stale."""
    proof = whole_manifest(store, run_directory.stage_manifest("score"))
    return {} if proof is None else {"score": proof.hashes}


def _settings(run: Run) -> Mapping[str, object]:
    """Return the settings, without those of the cluster, which change no result, and what the audit found."""
    record = json.loads(run.store.find_bytes(run_directory.RUN_JSON) or b"{}")
    settings = {key: value for key, value in run.config.model_dump(mode="json").items() if key != "cluster"}
    return {"settings": settings, "audit": record.get("audit"), "data": run.dataset.fingerprint}


def _code() -> str:
    """Return the digest of the code that makes a page, and of what the page itself is made of."""
    folder = files("relatif.pipeline.report.page") / ASSETS
    assets = {each.name: hashlib.sha256(each.read_bytes()).hexdigest() for each in folder.iterdir() if each.is_file()}
    return digest({"python": code_digest(__name__), "assets": assets})
