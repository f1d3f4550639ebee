"""Every path of a run, relative to its directory.

The contract: ``run.json``, ``checkpoint/model.safetensors``, ``factors/``, ``tables/<table>/*.parquet``,
``report/index.html``. Below ``work/`` lie manifests and the parts of unfinished stages.
"""

RUN_JSON = "run.json"
DATA = "data"
CHECKPOINT = "checkpoint/model.safetensors"
CHECKPOINT_MANIFEST = "checkpoint/manifest.json"
FACTORS = "factors"
FACTORS_MANIFEST = "factors/manifest.json"
COVERAGE = "factors/coverage.json"
TABLES = "tables"
WORK = "work"
SCORE_WORK = "work/score"
REPORT = "report/index.html"
PLANE = "report/plane.png"


def factor_file(layer: str) -> str:
    """Path of one layer's eigenbases and spectrum."""
    return f"{FACTORS}/{layer}.safetensors"


def table(name: str) -> str:
    """Directory of a table."""
    return f"{TABLES}/{name}"


def table_part(name: str, part: int) -> str:
    """Path of the part-th file of a table."""
    return f"{TABLES}/{name}/part-{part:05d}.parquet"


def scores_part(block: int, unit: int) -> str:
    """Path of the dense scores of a unit."""
    return f"{TABLES}/scores/part-{block:05d}-{unit:05d}.parquet"


def unit_file(block: int, unit: int, name: str) -> str:
    """Path of a file that a score unit leaves for the join."""
    return f"{SCORE_WORK}/{block:05d}-{unit:05d}.{name}.parquet"


def unit_manifest(block: int, unit: int) -> str:
    """Path of the manifest of a score unit."""
    return f"{SCORE_WORK}/{block:05d}-{unit:05d}.json"


def stage_manifest(stage: str) -> str:
    """Path of the manifest that proves a whole stage."""
    return f"{WORK}/{stage}.json"
