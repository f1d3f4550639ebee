"""Every path of a run, relative to its directory.

The contract: ``run.json``, ``checkpoint/model.safetensors``, ``factors/``, ``tables/<table>/*.parquet``,
``report/index.html``. Below ``work/`` lie manifests and the parts of unfinished stages.
"""

RUN_JSON = "run.json"
DATA = "data"
CHECKPOINT = "checkpoint/model.safetensors"
OUTPUTS = "checkpoint/outputs.safetensors"
"""Some rows and the trained model's outputs for them, which every process that loads the model compares."""
CHECKPOINT_MANIFEST = "checkpoint/manifest.json"
FACTORS = "factors"
FACTORS_MANIFEST = "factors/manifest.json"
COVERAGE = "factors/coverage.json"
JOINT_FACTORS = "factors/joint.safetensors"
TABLES = "tables"
GRADIENTS = "gradients"
"""What explains further inputs without a pass over the training set, with ``score.gradient_store``."""
WORK = "work"
CLAIMS = "work/claims"
"""Numbered files, of which the last says who may write."""
SCORE_WORK = "work/score"
FACTORS_WORK = "work/factors"
LEAVE_ONE_OUT_WORK = "work/leave_one_out"
PREPARED = "work/retraining/prepared.safetensors"
PREPARED_MANIFEST = "work/retraining/prepared.json"
"""What every retraining starts from, and the proof that it is complete."""
REFERENCE = "work/retraining/reference.safetensors"
REFERENCE_MANIFEST = "work/retraining/reference.json"
"""The model that changes are measured from, with its losses, and the proof that it is complete."""
LINEAR_DATAMODELING_WORK = "work/linear_datamodeling"
RETRAINING_WORK = "work/retraining"
CURVATURES = "work/curvatures"
REPORT = "report/index.html"
PLANE = "report/plane.png"
MISLABEL_DETECTION = "report/mislabel_detection.png"
LINEAR_DATAMODELING = "report/linear_datamodeling.png"
LEAVE_ONE_OUT_PLOT = "report/leave_one_out.png"


def factor_file(layer: str) -> str:
    """Path of one layer's eigenbases and spectrum."""
    return f"{FACTORS}/{layer}.safetensors"


def row_sums(group: int) -> str:
    """Path of a group of the exact curvature's strips, summed over all shards and not yet decomposed."""
    return f"{FACTORS_WORK}/rows-{group:05d}.safetensors"


def table(name: str) -> str:
    """Directory of a table."""
    return f"{TABLES}/{name}"


def table_part(name: str, part: int) -> str:
    """Path of the part-th file of a table."""
    return f"{TABLES}/{name}/part-{part:05d}.parquet"


def scores_part(block: int, unit: int) -> str:
    """Path of the dense scores of a unit."""
    return f"{TABLES}/scores/part-{block:05d}-{unit:05d}.parquet"


def gradients_file(unit: int) -> str:
    """Path of the gradients of a unit's training examples; the index of its blocks lies beside it."""
    return f"{GRADIENTS}/part-{unit:05d}.bin"


def unit_file(block: int, unit: int, name: str) -> str:
    """Path of a file that a score unit leaves for the join."""
    return f"{SCORE_WORK}/{block:05d}-{unit:05d}.{name}.parquet"


def unit_manifest(block: int, unit: int) -> str:
    """Path of the manifest that proves a score unit's files."""
    return f"{SCORE_WORK}/{block:05d}-{unit:05d}.json"


def solution_file(first: int) -> str:
    """Path of the solved numerators of test inputs from row ``first`` on."""
    return f"{SCORE_WORK}/solution-{first:08d}.safetensors"


def solution_manifest(first: int) -> str:
    """Path of the manifest that proves the solved numerators of test inputs from row ``first`` on."""
    return f"{SCORE_WORK}/solution-{first:08d}.json"


def retraining_file(train_index: int) -> str:
    """Path of the model that was trained without a training example."""
    return f"{LEAVE_ONE_OUT_WORK}/{train_index:08d}.safetensors"


def retraining_manifest(train_index: int) -> str:
    """Path of the manifest that proves the model that was trained without a training example."""
    return f"{LEAVE_ONE_OUT_WORK}/{train_index:08d}.json"


def subset_model(subset: int, repeat: int) -> str:
    """Path of a model that was trained on a subset of the training set."""
    return f"{LINEAR_DATAMODELING_WORK}/subset-{subset:05d}-{repeat}.safetensors"


def subset_manifest(subset: int, repeat: int) -> str:
    """Path of the manifest that proves a model that was trained on a subset."""
    return f"{LINEAR_DATAMODELING_WORK}/subset-{subset:05d}-{repeat}.json"


def subset_scores(unit: int) -> str:
    """Path of the scores that a unit of training shards adds to every subset's sum."""
    return f"{LINEAR_DATAMODELING_WORK}/scores-{unit:05d}.safetensors"


def subset_scores_manifest(unit: int) -> str:
    """Path of the manifest that proves what a unit adds to every subset's sum of scores."""
    return f"{LINEAR_DATAMODELING_WORK}/scores-{unit:05d}.json"


def predictions_file(method: str) -> str:
    """Path of the changes that a curvature predicts for leaving examples out."""
    return f"{LEAVE_ONE_OUT_WORK}/predictions-{method}.safetensors"


def predictions_manifest(method: str) -> str:
    """Path of the manifest that proves a curvature's predictions."""
    return f"{LEAVE_ONE_OUT_WORK}/predictions-{method}.json"


def curvature(method: str) -> str:
    """Directory of another curvature: a run directory with a checkpoint and factors alone."""
    return f"{CURVATURES}/{method}"


def stage_manifest(stage: str) -> str:
    """Path of the manifest that proves a whole stage."""
    return f"{WORK}/{stage}.json"
