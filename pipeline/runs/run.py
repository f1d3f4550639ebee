"""A run: its configuration, where it lies, and its data."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from importlib.metadata import version
from typing import Any

import pyarrow as pa

from relatif.pipeline.datasets.description import DATASET_JSON
from relatif.pipeline.datasets.labels import PUBLISHED, Labelling
from relatif.pipeline.datasets.shards import PreparedDataset, Shard
from relatif.pipeline.runs.code import TaskCode, code_digest, task_code
from relatif.pipeline.runs.source import Source
from relatif.pipeline.storage.parquet import read_table
from relatif.pipeline.storage.sealed import sealed
from relatif.pipeline.storage.store import Store, open_store
from relatif.pipeline.tasks.imported import Imported, imported
from relatif.pipeline.tasks.task import Task, module_of
from relatif.schemas import run_directory
from relatif.schemas.config import DataConfig, RunConfig, flatten
from relatif.schemas.digests import SCHEMA_VERSION, VERSION, digest
from relatif.schemas.errors import ConfigurationError
from relatif.schemas.tables import TABLES

SCORED = "scored"
"""Role of the part ``data.scored``, where one is named."""

PARTS = ("train", "test", SCORED)
"""The parts of the data that stages read, by their roles."""

REPORTED_PACKAGES = ("torch", "ray", "pyarrow", "numpy")


@dataclass(frozen=True)
class Run:
    """A resolved configuration with its output directory and its data."""

    config: RunConfig
    store: Store
    data: Store
    dataset: PreparedDataset

    @cached_property
    def source(self) -> Source:
        """The addresses from which workers load everything."""
        config = self.config
        model = config.model
        if model.checkpoint is not None:
            # A relative path begins where the job starts, and not where a worker does.
            model = model.model_copy(update={"checkpoint": open_store(model.checkpoint).url})
        layers, exclude = config.curvature.chosen
        return Source(self.store, self.data, self.dataset, config.task, layers, model, exclude)

    @cached_property
    def task(self) -> Task:
        """The task; DataError where the data does not fit it."""
        return self.source.load_task()

    @cached_property
    def task_code(self) -> TaskCode:
        """The code that the task adds to every stage that runs its model."""
        return task_code(module_of(self.config.task))

    @cached_property
    def task_files(self) -> dict[str, str]:
        """SHA-256 of the files that the task's training reads, or the checkpoint's, by address."""
        return self.source.file_hashes(self.task)

    @cached_property
    def imported(self) -> Imported | None:
        """The model of ``model.checkpoint``, None where there is none; raises as ``tasks.imported.imported``."""
        address = self.source.model.checkpoint
        return None if address is None else imported(self.task, address)

    @property
    def train_shards(self) -> tuple[Shard, ...]:
        """The training shards, in row order."""
        return self.dataset.shards("train", rows=self.config.data.shard_rows, limit=self.config.data.train_limit)

    @property
    def test_shards(self) -> tuple[Shard, ...]:
        """The shards of the explained test inputs, in row order."""
        return self.dataset.shards("test", rows=self.config.data.shard_rows, limit=self.config.score.test_limit)

    @property
    def scored_shards(self) -> tuple[Shard, ...]:
        """The shards of the examples that are scored, in row order: the training set, or the part ``data.scored``."""
        scored = self.config.data.scored
        return self.train_shards if scored is None else self.dataset.shards(scored, rows=self.config.data.shard_rows)

    @property
    def scored_rows(self) -> int:
        """Number of scored examples."""
        return self.train_rows if self.config.data.scored is None else self.dataset.rows(self.config.data.scored)

    @property
    def train_rows(self) -> int:
        """Number of training examples n."""
        return self.config.data.train_limit or self.dataset.rows("train")

    @property
    def test_rows(self) -> int:
        """Number of explained test inputs M."""
        return self.config.score.test_limit or self.dataset.rows("test")

    def table(self, name: str, columns: Sequence[str] | None = None) -> pa.Table:
        """Return a table of the run by its name, with some columns (default: all).

        Raises ConfigurationError for a name of no table, MissingStageError where it is not written yet, and as
        ``read_table``.
        """
        if name not in TABLES:
            raise ConfigurationError(f"expected the name of a table, {', '.join(TABLES)}, found {name!r}; correct it")
        return read_table(self.store, run_directory.table(name), columns)

    def settings(self, names: tuple[str, ...]) -> dict[str, Any]:
        """Return the settings that are among ``names``, or begin with one of them that ends in ``.`` or ``_``."""
        return {key: value for key, value in flatten(self.config).items() if matches(key, names)}

    def part(self, name: str) -> str | None:
        """Return the fingerprint of a part of the data that stages read, by its role; None where none is named."""
        named = self.config.data.scored if name == SCORED else name
        return None if named is None else self.dataset.part_fingerprint(named)

    def digest(
        self, what: str, *, settings: tuple[str, ...], code: str, parts: tuple[str, ...] = PARTS, **depends: Any
    ) -> str:
        """Return the digest of all that a piece of work depends on.

        ``settings`` are names as ``settings`` takes them, ``code`` is a digest, ``depends`` names other work by digest,
        ``parts`` are those of the data that it reads. The schema version is always part of it.
        """
        facts = {"what": what, "settings": self.settings(settings), "code": code, "schema": SCHEMA_VERSION}
        return digest({**facts, "data": [self.part(name) for name in parts], "depends": depends})

    def code(self, *modules: str) -> str:
        """Return the digest of the code that modules of this project run: their own, and the task's."""
        own = code_digest(*modules, *self.task_code.modules)
        return own if self.task_code.own is None else f"{own}.{self.task_code.own}"

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what is computed on demand: it may hold a model, and another process makes its own."""
        return {each.name: getattr(self, each.name) for each in fields(self)}


def matches(key: str, names: tuple[str, ...]) -> bool:
    """Return whether a setting is among ``names``, or begins with one that ends in ``.`` or ``_``."""
    return any(key == name or (name.endswith((".", "_")) and key.startswith(name)) for name in names)


def relabelled(dataset: PreparedDataset, config: DataConfig) -> PreparedDataset:
    """Return the data set with labels merged and flipped, and its parts named, as the settings ask.

    Raises ConfigurationError where there are no classes, and where fewer than two are left.
    """
    labelling = Labelling(config.merge_classes, config.flip_share, config.flip_seed)
    roles = tuple(pair for pair in zip(("train", "test"), config.part_names, strict=True) if pair[0] != pair[1])
    changed = replace(dataset, labelling=labelling, parts=roles)
    if labelling != PUBLISHED and not dataset.class_names:
        raise ConfigurationError(
            f"expected labels of classes, which can be merged and flipped, found data.merge_classes = "
            f"{config.merge_classes} and data.flip_share = {config.flip_share} for {dataset.name}, which has no "
            f"classes; leave both settings out"
        )
    if labelling != PUBLISHED and len(changed.class_names) < 2:
        raise ConfigurationError(
            f"expected at least 2 classes with data.merge_classes = {config.merge_classes}, found "
            f"{len(changed.class_names)} of the {len(dataset.class_names)} of {dataset.name}; lower data.merge_classes"
        )
    return changed


def record(run: Run, code: dict[str, str], checkpoint: str | None, told: Mapping[str, Any]) -> None:
    """Write ``run.json``: resolved configuration, versions, and the fingerprints of code, data, files and checkpoint.

    ``code`` are digests by stage, ``checkpoint`` is the SHA-256 of the trained model, if there is one. ``told`` is what
    else belongs into the record: ``audit``, what the audits of the ``untrained`` and the ``trained`` model found, and
    ``claims``, those of all drivers that had work to do.
    """
    described = run.data.measure(DATASET_JSON, about=0)
    content = {
        "schema_version": SCHEMA_VERSION,
        "code_version": VERSION,
        "code": code,
        "versions": {"python": platform.python_version(), **{name: version(name) for name in REPORTED_PACKAGES}},
        "configuration": run.config.model_dump(mode="json"),
        "data": {
            "address": run.data.url,
            "name": run.dataset.name,
            "fingerprint": run.dataset.fingerprint,
            "parts": {name: run.part(name) for name in PARTS},
            "description": described and described[1],
            "meaning": run.dataset.description.meaning_digest,
        },
        "files": run.task_files,
        "checkpoint": checkpoint and {"path": run_directory.CHECKPOINT, "sha256": checkpoint},
        **told,
    }
    run.store.publish_bytes(run_directory.RUN_JSON, sealed(content))
