"""A run: its configuration, where it lies, its data, and what each stage's results depend on."""

import json
import platform
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any

from relatif.pipeline.cluster.tasks import gather, submit
from relatif.pipeline.datasets.labels import PUBLISHED, Labelling
from relatif.pipeline.datasets.published import open_source
from relatif.pipeline.datasets.shards import PreparedDataset, Shard
from relatif.pipeline.storage.manifests import finished, read_manifest
from relatif.pipeline.storage.store import Store, open_store
from relatif.pipeline.tasks.task import own_code
from relatif.schemas import run_directory
from relatif.schemas.config import DataConfig, RunConfig, flatten, parse_config
from relatif.schemas.digests import SCHEMA_VERSION, code_version, digest
from relatif.schemas.errors import ChangedRunError, ConfigurationError, MissingStageError, StorageError
from relatif.schemas.manifest import Manifest

STAGES = ("train", "factors", "score", "statistics")
"""The stages of a whole run. ``leave_one_out`` is none of them, as it costs as much as hundreds of trainings."""

STAGE_SETTINGS: dict[str, tuple[str, ...]] = {
    "train": ("task", "data.train_limit", "data.shard_rows", "data.merge_classes", "data.flip_", "train."),
    "factors": (
        "curvature.method",
        "curvature.exact_matrix",
        "curvature.denominators",
        "curvature.layers",
        "curvature.fisher",
        "curvature.fisher_",
    ),
    "score": ("curvature.damping", "curvature.cg_", "curvature.lissa_", "score."),
    "statistics": ("statistics.",),
    "class_agreement": (),
    "mislabel_detection": (),
    "linear_datamodeling": ("linear_datamodeling.",),
    "leave_one_out": ("leave_one_out.",),
}
"""Settings, by name or prefix, that a stage depends on beside those of the stages before it.

Statistics, evaluations and leave-one-out all follow score.

``data.source`` is not among them, as the data's fingerprint is; ``cluster.`` changes no result.
"""

REPORTED_PACKAGES = ("torch", "ray", "pyarrow", "numpy")


@dataclass(frozen=True)
class Run:
    """A resolved configuration with its output directory, its data and the version of the code."""

    config: RunConfig
    store: Store
    data: Store
    dataset: PreparedDataset
    code: str

    @property
    def train_shards(self) -> tuple[Shard, ...]:
        """The training shards, in row order."""
        return self.dataset.shards("train", rows=self.config.data.shard_rows, limit=self.config.data.train_limit)

    @property
    def test_shards(self) -> tuple[Shard, ...]:
        """The shards of the explained test inputs, in row order."""
        return self.dataset.shards("test", rows=self.config.data.shard_rows, limit=self.config.score.test_limit)

    @property
    def train_rows(self) -> int:
        """Number of training examples n."""
        return self.config.data.train_limit or self.dataset.rows("train")

    @property
    def test_rows(self) -> int:
        """Number of explained test inputs M."""
        return self.config.score.test_limit or self.dataset.rows("test")

    def settings(self, stage: str) -> dict[str, Any]:
        """Return the settings that a stage's results depend on: its own and those of the stages before it."""
        before = STAGES[: STAGES.index(stage if stage in STAGES[:-1] else STAGES[-1])]
        names = tuple(name for each in (*before, stage) for name in STAGE_SETTINGS[each])
        return {key: value for key, value in flatten(self.config).items() if _matches(key, names)}

    def digest(self, stage: str, **depends: Any) -> str:
        """Return the digest of all that a piece of a stage depends on; ``depends`` names other work by digest."""
        facts = {"stage": stage, "settings": self.settings(stage), "code": self.code, "schema": SCHEMA_VERSION}
        return digest({**facts, "data": self.dataset.fingerprint, "depends": depends})

    def train_digest(self) -> str:
        """Return what the checkpoint depends on."""
        return self.digest("train")

    def factors_digest(self) -> str:
        """Return what the factors depend on."""
        return self.digest("factors", checkpoint=self.checkpoint().outputs[0].sha256)

    def score_digest(self) -> str:
        """Return what the score tables depend on."""
        factors = [output.sha256 for output in self.factors().outputs]
        return self.digest("score", checkpoint=self.checkpoint().outputs[0].sha256, factors=factors)

    def checkpoint(self) -> Manifest:
        """Return the proof of the checkpoint; MissingStageError where training is not finished."""
        return self.proof(run_directory.CHECKPOINT_MANIFEST, self.train_digest(), stage="train")

    def factors(self) -> Manifest:
        """Return the proof of the factors; MissingStageError where they are not finished."""
        return self.proof(run_directory.FACTORS_MANIFEST, self.factors_digest(), stage="factors")

    def scores(self) -> Manifest:
        """Return the proof of the score tables; MissingStageError where they are not finished."""
        return self.proof(run_directory.stage_manifest("score"), self.score_digest(), stage="score")

    def proof(self, path: str, expected: str, *, stage: str) -> Manifest:
        """Return the manifest at ``path`` if it proves work for digest ``expected``; else raise MissingStageError."""
        manifest = finished(self.store, path, expected)
        if manifest is None:
            raise MissingStageError(
                f"expected the finished result of stage {stage!r} in {self.store.describe()}, found none made with "
                f"these settings; run python -m jobs.{stage} with the same options first"
            )
        return manifest


def open_run(config: RunConfig, out: str) -> Run:
    """Open a run's directory, prepare its data where it is in a published format, and record the configuration.

    Raises ChangedRunError when finished work of the directory was made with other settings, data or code.
    """
    store = open_store(out)
    opened = submit(open_source, open_store(config.data.source), store.child(run_directory.DATA))
    ((data, published),) = gather([opened])
    dataset = relabelled(published, config.data)
    code = ".".join(filter(None, [code_version(), own_code(config.task)]))
    run = Run(config, store, data, dataset, code)
    _check_unchanged(run)
    record(run)
    return run


def relabelled(dataset: PreparedDataset, config: DataConfig) -> PreparedDataset:
    """Return the data set with labels merged and flipped as the settings ask.

    Raises ConfigurationError where fewer than two classes are left.
    """
    labelling = Labelling(config.merge_classes, config.flip_share, config.flip_seed)
    seen = replace(dataset, labelling=labelling)
    if labelling != PUBLISHED and len(seen.class_names) < 2:
        raise ConfigurationError(
            f"expected at least 2 classes with data.merge_classes = {config.merge_classes}, found "
            f"{len(seen.class_names)} of the {len(dataset.class_names)} of {dataset.name}; lower data.merge_classes"
        )
    return seen


def record(run: Run) -> None:
    """Write ``run.json``: resolved configuration, versions, and the fingerprints of data and checkpoint."""
    checkpoint = _checkpoint_sha256(run.store)
    content = {
        "schema_version": SCHEMA_VERSION,
        "code_version": run.code,
        "versions": {"python": platform.python_version(), **{name: version(name) for name in REPORTED_PACKAGES}},
        "configuration": run.config.model_dump(mode="json"),
        "data": {"address": run.data.url, "name": run.dataset.name, "fingerprint": run.dataset.fingerprint},
        "checkpoint": checkpoint and {"path": run_directory.CHECKPOINT, "sha256": checkpoint},
    }
    run.store.publish_bytes(run_directory.RUN_JSON, json.dumps(content, indent=2).encode() + b"\n")


def _check_unchanged(run: Run) -> None:
    if not run.store.exists(run_directory.RUN_JSON):
        return
    try:
        recorded = json.loads(run.store.read_bytes(run_directory.RUN_JSON))
        before = flatten(parse_config(recorded["configuration"], origin="it"))
        identity = {"data": recorded["data"]["fingerprint"], "code": recorded["code_version"]}
    except (ConfigurationError, ValueError, KeyError, TypeError) as error:
        raise StorageError(
            f"expected the record of a run in {run.store.describe(run_directory.RUN_JSON)}, found "
            f"{type(error).__name__}: {error}; choose another --out, or delete that directory"
        ) from error
    after = flatten(run.config)
    changes = [(key, before.get(key), value) for key, value in after.items() if before.get(key) != value]
    changes = [
        change for change in changes if _first_stage(change[0]) and _has_work(run.store, _first_stage(change[0]))
    ]
    if _has_work(run.store, STAGES[0]):
        now = {"data": run.dataset.fingerprint, "code": run.code}
        changes += [(f"({key} fingerprint)", identity[key], now[key]) for key in now if identity[key] != now[key]]
    if changes:
        lines = "\n".join(f"  {key}: was {old!r}, is now {new!r}" for key, old, new in changes)
        raise ChangedRunError(
            f"expected the settings with which {run.store.describe()} was begun, found changed:\n{lines}\n"
            f"Choose another --out for the new settings, or set them back (code: check out that version) to continue "
            f"this run; nothing was touched."
        )


def _first_stage(key: str) -> str | None:
    """Return the first stage whose lasting results a setting decides.

    Statistics are cheap and made anew each time. Leave-one-out's own settings choose among retrainings,
    each of which stays valid whatever else is chosen.
    """
    return next((stage for stage in STAGES[:-1] if _matches(key, STAGE_SETTINGS[stage])), None)


def _has_work(store: Store, stage: str | None) -> bool:
    """Return whether a stage or a later one has finished work."""
    proofs = {
        "train": [run_directory.CHECKPOINT_MANIFEST],
        "factors": [run_directory.FACTORS_MANIFEST],
        "score": [run_directory.stage_manifest("score")],
    }
    later = list(proofs)[list(proofs).index(stage) :] if stage in proofs else []
    if any(store.exists(path) for name in later for path in proofs[name]):
        return True
    return bool(later) and bool(store.list(run_directory.SCORE_WORK, ".json"))


def _matches(key: str, names: tuple[str, ...]) -> bool:
    return any(key == name or (name.endswith((".", "_")) and key.startswith(name)) for name in names)


def _checkpoint_sha256(store: Store) -> str | None:
    if not store.exists(run_directory.CHECKPOINT_MANIFEST):
        return None
    return read_manifest(store, run_directory.CHECKPOINT_MANIFEST).outputs[0].sha256
