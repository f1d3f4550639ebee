"""Every setting, by what a change of it means for a run that was begun."""

from collections.abc import Mapping

from relatif.pipeline.tasks.named import SETTINGS
from tests.support.images import PERCEPTRON

CHANGES: Mapping[str, dict[str, tuple[str, str, str]]] = {
    "train": {
        "task": (PERCEPTRON, "'tests.support.images:logistic'", f"'{PERCEPTRON}'"),
        "data.train_limit": ("150", "None", "150"),
        "data.shard_rows": ("100", "50", "100"),
        "data.merge_classes": ("2", "1", "2"),
        "data.flip_share": ("0.25", "0.0", "0.25"),
        "data.flip_seed": ("1", "0", "1"),
        "train.weight_decay": ("0.5", "0.0001", "0.5"),
        "train.seed": ("7", "0", "7"),
        "train.max_iterations": ("900", "1000", "900"),
        "train.tolerance": ("1e-4", "0.001", "0.0001"),
        "train.epochs": ("3", "20", "3"),
        "train.batch_size": ("64", "128", "64"),
        "train.learning_rate": ("0.2", "0.05", "0.2"),
        "train.momentum": ("0.8", "0.9", "0.8"),
    },
    "factors": {
        "curvature.method": ("ekfac", "'kfac'", "'ekfac'"),
        "curvature.denominators": ("ekfac", "'kfac'", "'ekfac'"),
        "curvature.layers": ("['linear']", "None", "['linear']"),
        "curvature.exclude": ("['*.bias']", "[]", "['*.bias']"),
        "curvature.precision": ("float32", "None", "'float32'"),
        "curvature.fisher": ("empirical", "None", "'empirical'"),
        "curvature.fisher_samples": ("2", "1", "2"),
        "curvature.fisher_seed": ("3", "0", "3"),
    },
    "score": {
        "curvature.damping": ("0.5", "0.001", "0.5"),
        "curvature.cg_tolerance": ("1e-5", "1e-06", "1e-05"),
        "curvature.cg_max_iterations": ("9", "500", "9"),
        "curvature.lissa_depth": ("9", "5000", "9"),
        "curvature.lissa_repeats": ("2", "1", "2"),
        "curvature.lissa_batch_size": ("64", "512", "64"),
        "curvature.lissa_scale": ("12.5", "None", "12.5"),
        "curvature.lissa_tolerance": ("0.25", "0.5", "0.25"),
        "curvature.lissa_seed": ("1", "0", "1"),
        "data.scored": ("test", "None", "'test'"),
        "score.methods": (
            "['influence', 'nearest_neighbour']",
            "['influence', 'theta_relatif', 'l_relatif', 'nearest_neighbour', 'negative_influence']",
            "['influence', 'nearest_neighbour']",
        ),
        "score.top_k": ("6", "5", "6"),
        "score.explained_label": ("2", "'predicted'", "2"),
        "score.test_limit": ("30", "None", "30"),
        "score.measurement": ("logit", "None", "'logit'"),
        "score.test_rows": ("random:3", "None", "'random:3'"),
        "score.write_scores": ("true", "False", "True"),
        "score.gradient_store": ("true", "False", "True"),
        "score.gradient_store_dtype": ("float32", "'bfloat16'", "'float32'"),
        "score.test_block_rows": ("40", "10000", "40"),
        "score.unit_rows": ("50", "100", "50"),
    },
}
"""Settings by the stage whose lasting results they decide: a new value; then the old and the new one as told."""

RENEWING = {name for name in CHANGES["score"] if name.startswith(("score.", "data.scored"))}
"""Settings whose change is taken into a finished run in place."""

ALWAYS_ACCEPTED = {
    "statistics.influence_set_k": "[2]",
    "statistics.overlap_k": "[3]",
    "evaluate.what": "['class_agreement']",
    "linear_datamodeling.subset_count": "12",
    "linear_datamodeling.subset_share": "0.25",
    "linear_datamodeling.trainings": "2",
    "linear_datamodeling.test_count": "7",
    "linear_datamodeling.seed": "1",
    "leave_one_out.test_count": "7",
    "leave_one_out.seed": "1",
    "leave_one_out.curvatures": "['exact']",
    "leave_one_out.methods": "['influence']",
    "cluster.workers": "2",
    "cluster.threads_per_worker": "1",
    "cluster.gpus_per_worker": "0",
    "cluster.shards_per_task": "1",
    "cluster.local_cpus": "1",
    "cluster.object_store_bytes": "100000000",
    "cluster.lease_s": "30.0",
    "cluster.max_retries": "0",
    "cluster.patience_s": "1",
}
TABLE_SETTINGS = (
    *("train", "test", "split_column", "hold_out", "input_columns", "target_columns", "class_names", "id_column"),
    *("image_size", "image_mode", "mean", "std", "tokenizer", "max_length"),
)
"""Settings of ``data`` that say how tables are read."""

BY_CONTENT = {"data.source", "data.label_column", "model.checkpoint", *(f"data.{name}" for name in TABLE_SETTINGS)}
"""The fingerprint of the data, or the checkpoint's files, stand for it."""

NOT_ALONE = {"curvature.exact_matrix", *(f"model.{name}" for name in SETTINGS)}
"""Changes only together with another setting: the Hessian with the method exact, a likelihood with another task."""
