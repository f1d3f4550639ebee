"""Opening a run's directory: one that is begun or continued, or one that is finished. Neither needs Ray."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from relatif.pipeline.datasets.published import open_source
from relatif.pipeline.datasets.shards import PreparedDataset, open_dataset
from relatif.pipeline.runs.run import Run, relabelled
from relatif.pipeline.storage.addresses import refuse_partitions
from relatif.pipeline.storage.store import Store, open_store
from relatif.schemas import run_directory
from relatif.schemas.config import RunConfig, flatten
from relatif.schemas.errors import ConfigurationError, DataError, MissingStageError, StorageError
from relatif.schemas.reading import parse_config
from relatif.schemas.tables import TABLES

TABLE_COLUMNS = frozenset(name for spec in TABLES.values() for name in spec.schema.names)

Opener = Callable[[Store, Store, str | None], tuple[Store, PreparedDataset]]
"""Opens the prepared data at an address, or prepares the published data there into another one.

The third argument is the column of labels where one is chosen.
"""


@dataclass(frozen=True)
class Record:
    """The contents of ``run.json``: settings, the data's fingerprint and address, and code digests by stage."""

    config: RunConfig
    fingerprint: str
    address: str
    code: dict[str, str]

    @property
    def settings(self) -> dict[str, Any]:
        """Every setting by ``section.key``."""
        return flatten(self.config)


def open_run(config: RunConfig, out: str, opener: Opener = open_source) -> Run:
    """Return a run in the directory ``out``, with its data; data in a published format is prepared into it first.

    Nothing of the run itself is written. Raises ConfigurationError for an ``out`` that can't hold one, and as
    ``open_source`` does.
    """
    store = open_store(out)
    refuse_partitions(store.url, TABLE_COLUMNS)
    if store.size("") is not None:
        raise ConfigurationError(f"expected --out to name a folder, found the file {store.describe()}; name another")
    source = open_store(config.data.source)
    if source.url == store.url:
        raise ConfigurationError(
            f"expected --out beside the data, found the folder of data.source, {store.describe()}; name another"
        )
    data, published = opener(source, store.child(run_directory.DATA), config.data.label_column)
    return Run(config, store, data, relabelled(published, config.data))


def open_finished(out: str) -> Run:
    """Return the run in ``out``, finished or not, with the settings and the data that it was begun with.

    Raises MissingStageError where no run was recorded there, DataError where its data is no longer there or is another.
    """
    store = open_store(out)
    recorded = read_record(store)
    if recorded is None:
        raise MissingStageError(
            f"expected a run in {store.describe()}, found no {run_directory.RUN_JSON}; name the --out of a finished run"
        )
    data = open_store(recorded.address)
    run = Run(recorded.config, store, data, relabelled(open_dataset(data), recorded.config.data))
    if run.dataset.fingerprint != recorded.fingerprint:
        raise DataError(
            f"expected the data that the run in {store.describe()} was begun with, fingerprint {recorded.fingerprint}, "
            f"in {data.describe()}, found fingerprint {run.dataset.fingerprint}; put that data back"
        )
    return run


def read_record(store: Store) -> Record | None:
    """Return the contents of ``run.json``, None where there is none; StorageError where it is no record of a run."""
    if not store.exists(run_directory.RUN_JSON):
        return None
    try:
        content = json.loads(store.read_bytes(run_directory.RUN_JSON))
        config = parse_config(content["configuration"], origin="it")
        return Record(config, content["data"]["fingerprint"], content["data"]["address"], dict(content.get("code", {})))
    except (ConfigurationError, ValueError, KeyError, TypeError) as error:
        raise StorageError(
            f"expected the record of a run in {store.describe(run_directory.RUN_JSON)}, found "
            f"{type(error).__name__}: {error}; choose another --out, or the version of relatif that began the run"
        ) from error
