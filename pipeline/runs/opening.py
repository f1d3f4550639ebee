"""Opening a run's directory: one that is begun or continued, or one that is finished. Neither needs Ray."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from relatif.pipeline.datasets.description import DATASET_JSON, DatasetDescription
from relatif.pipeline.datasets.shards import PreparedDataset, open_dataset
from relatif.pipeline.datasets.tables.reading import Begun, Reading
from relatif.pipeline.runs.reading import reading_of
from relatif.pipeline.runs.run import Run, relabelled
from relatif.pipeline.runs.whole import has_results, require_known_writers
from relatif.pipeline.storage.addresses import refuse_partitions
from relatif.pipeline.storage.sealed import is_sealed, unsealed
from relatif.pipeline.storage.store import Store, open_store
from relatif.schemas import run_directory
from relatif.schemas.config import RunConfig, flatten
from relatif.schemas.errors import ConfigurationError, DataError, MissingStageError, StorageError
from relatif.schemas.reading import parse_config
from relatif.schemas.tables import TABLES

TABLE_COLUMNS = frozenset(name for spec in TABLES.values() for name in spec.schema.names)

Opener = Callable[[Store, Store, Reading], tuple[Store, PreparedDataset]]
"""Opens the prepared data at an address, or prepares the published data there into another one.

The third argument is how its rows are read.
"""


@dataclass(frozen=True)
class Record:
    """The contents of ``run.json``: settings, the data's fingerprint and address, code by stage, the task's files.

    ``parts`` are the fingerprints of the parts that stages read, none in a record of an earlier version.
    ``description`` is the SHA-256 of the data's own description, ``meaning`` that of what it says whatever files it
    names; ``claims`` are those of all drivers that recorded the run. All are None in a record of an earlier version.
    """

    config: RunConfig
    fingerprint: str
    address: str
    code: dict[str, str]
    files: dict[str, str] = field(default_factory=dict)
    description: str | None = None
    claims: tuple[str, ...] | None = None
    parts: dict[str, str] = field(default_factory=dict)
    meaning: str | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """Every setting by ``section.key``."""
        return flatten(self.config)


def open_prepared(source: Store, own: Store, reading: Reading) -> tuple[Store, PreparedDataset]:
    """Open data, or prepare it first, as ``datasets.published.open_source``."""
    # Imported here: whoever opens a finished run, whose data is prepared, needs no reader of published files.
    from relatif.pipeline.datasets.published import open_source  # noqa: PLC0415

    return open_source(source, own, reading)


def open_run(config: RunConfig, out: str, opener: Opener = open_prepared) -> Run:
    """Return a run in the directory ``out``, with its data; data in a published format is prepared into it first.

    Nothing of the run itself is written. Raises as ``open_out`` and ``open_source`` do.
    """
    return open_run_in(config, open_out(config, out), opener)


def open_out(config: RunConfig, out: str) -> Store:
    """Return the folder of a run, which need not be there yet; ConfigurationError where ``out`` can't hold one."""
    store = open_store(out)
    refuse_partitions(store.url, TABLE_COLUMNS)
    if store.size("") is not None:
        raise ConfigurationError(f"expected --out to name a folder, found the file {store.describe()}; name another")
    if open_store(config.data.source).url == store.url:
        raise ConfigurationError(
            f"expected --out beside the data, found the folder of data.source, {store.describe()}; name another"
        )
    return store


def open_run_in(config: RunConfig, store: Store, opener: Opener = open_prepared) -> Run:
    """Return a run in a folder that can hold one, with its data, as ``open_run`` does."""
    reading = reading_of(config, _begun(store))
    data, published = opener(open_store(config.data.source), store.child(run_directory.DATA), reading)
    return Run(config, store, data, relabelled(published, config.data))


def _begun(store: Store) -> Begun | None:
    """Return what the results in a run's folder were made from; None where there are none yet."""
    if not store.exists(run_directory.RUN_JSON) or not has_results(store):
        return None
    recorded = read_record(store)
    return Begun() if recorded is None else Begun(recorded.parts.get("train"), recorded.fingerprint)


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
    require_known_writers(store, recorded.claims)
    data = open_store(recorded.address)
    run = Run(recorded.config, store, data, relabelled(open_dataset(data), recorded.config.data))
    if run.dataset.fingerprint != recorded.fingerprint:
        raise DataError(
            f"expected the data that the run in {store.describe()} was begun with, fingerprint {recorded.fingerprint}, "
            f"in {data.describe()}, found fingerprint {run.dataset.fingerprint}; put that data back"
        )
    return run


def read_record(store: Store) -> Record | None:
    """Return the contents of ``run.json``, None where there is none; StorageError where it is no record of a run.

    A record is whole where its text is the one that was sealed; earlier versions did not seal theirs.
    """
    data = store.find_bytes(run_directory.RUN_JSON)
    if data is None:
        return None
    try:
        content = unsealed(data) if is_sealed(data) else json.loads(data)
        config, described = parse_config(content["configuration"], origin="it"), content["data"]
        code, files = dict(content.get("code", {})), dict(content.get("files", {}))
        told, claims = described.get("description"), content.get("claims")
        claims = None if claims is None else tuple(claims)
        parts = {name: value for name, value in described.get("parts", {}).items() if value is not None}
        meaning = described.get("meaning")
        return Record(config, described["fingerprint"], described["address"], code, files, told, claims, parts, meaning)
    except (ConfigurationError, ValueError, KeyError, TypeError) as error:
        raise StorageError(
            f"expected the record of a run in {store.describe(run_directory.RUN_JSON)}, found "
            f"{type(error).__name__}: {error}; put back a copy of it, choose another --out, or take the version of "
            f"relatif that began the run"
        ) from error


def require_description(run: Run, recorded: Record) -> None:
    """Raise DataError where the description of data that lies in the run's own folder is not the one of its record.

    Of data elsewhere only the fingerprint counts: its description may tell more than it did.
    """
    if run.data.url != run.store.child(run_directory.DATA).url or recorded.fingerprint != run.dataset.fingerprint:
        return
    if not is_as_recorded(run.data, run.dataset.description, recorded):
        raise DataError(
            f"expected {run.data.describe(DATASET_JSON)} as it was when the run was begun, found other contents; put "
            f"back a copy of it, or prepare the data again"
        )


def is_as_recorded(data: Store, described: DatasetDescription, recorded: Record) -> bool:
    """Return whether the description of data says what it said when a run was recorded, beside its fingerprint."""
    if recorded.meaning is not None:
        return described.meaning_digest == recorded.meaning
    found = data.measure(DATASET_JSON, about=0)
    return recorded.description is None or found is None or found[1] == recorded.description
