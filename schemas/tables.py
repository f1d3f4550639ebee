"""One pyarrow schema per table: every column with its meaning and unit."""

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa

from relatif.schemas.digests import SCHEMA_VERSION
from relatif.schemas.methods import METHODS

METADATA_PREFIX = "relatif."


@dataclass(frozen=True)
class TableSpec:
    """A table's name, its meaning and its schema."""

    name: str
    meaning: str
    schema: pa.Schema

    def with_metadata(self, metadata: Mapping[str, str]) -> pa.Schema:
        """Return the schema with the metadata of every file: table, meaning, schema version and ``metadata``."""
        own = {"table": self.name, "meaning": self.meaning, "schema_version": str(SCHEMA_VERSION)}
        return self.schema.with_metadata({METADATA_PREFIX + key: value for key, value in {**own, **metadata}.items()})


def _column(name: str, kind: pa.DataType, meaning: str, unit: str = "1") -> pa.Field:
    return pa.field(name, kind, nullable=False, metadata={"meaning": meaning, "unit": unit})


def _maybe(field: pa.Field) -> pa.Field:
    """Return a column that is null where it does not apply to the task's likelihood."""
    return field.with_nullable(True)


_TRAIN_INDEX = _column("train_index", pa.int64(), "row of the training set, from 0", "row")
_TEST_INDEX = _column("test_index", pa.int64(), "row of the test set, from 0", "row")
_METHOD = _column("method", pa.string(), f"one of {', '.join(METHODS)}")
_LABEL = _maybe(_column("label", pa.int32(), "class that the data gives, merged and flipped as the run asks", "class"))
_PREDICTED = _maybe(_column("predicted_label", pa.int32(), "class that the model finds most probable", "class"))
_K = _column("k", pa.int32(), "how many examples of each explanation are counted, from the first", "examples")

TRAIN_EXAMPLES = TableSpec(
    "train_examples",
    "one row per training example: what the model makes of it, and the denominators of relative influence",
    pa.schema(
        [
            _TRAIN_INDEX,
            _LABEL,
            _PREDICTED,
            _maybe(_column("probability", pa.float32(), "the model's probability of label")),
            _column("loss", pa.float32(), "negative log-likelihood of label", "nats"),
            _column("gradient_norm", pa.float32(), "||g_i||, l2 norm of the loss gradient", "nats per unit of theta"),
            _column("theta_norm", pa.float32(), "||(H + lambda I)^-1 g_i||, denominator of theta-RelatIF (Def. 3.2)"),
            _column(
                "self_influence",
                pa.float32(),
                "g_i' (H + lambda I)^-1 g_i, squared denominator of l-RelatIF (Def. 3.4)",
            ),
        ]
    ),
)

TEST_EXAMPLES = TableSpec(
    "test_examples",
    "one row per explained test input",
    pa.schema(
        [
            _TEST_INDEX,
            _LABEL,
            _PREDICTED,
            _maybe(_column("explained_label", pa.int32(), "class at which the test gradient is taken", "class")),
            _maybe(_column("probability", pa.float32(), "the model's probability of explained_label")),
            _column("loss", pa.float32(), "negative log-likelihood of explained_label", "nats"),
            _column("self_influence", pa.float32(), "g_t' (H + lambda I)^-1 g_t"),
        ]
    ),
)

TOP_K = TableSpec(
    "top_k",
    "the k training examples with the most positive scores, for every test input and method",
    pa.schema(
        [
            _METHOD,
            _TEST_INDEX,
            _column("rank", pa.int32(), "1 for the highest score; ties go to the smaller train_index"),
            _TRAIN_INDEX,
            _column(
                "score",
                pa.float32(),
                "the method's score; for nearest_neighbour the negative l2 distance of the inputs, for "
                "negative_influence the influence with its sign turned",
            ),
        ]
    ),
)

SCORES = TableSpec(
    "scores",
    "the dense matrix of plain influence; relative influence is this divided by a column of train_examples",
    pa.schema(
        [
            _TEST_INDEX,
            _column("train_start", pa.int64(), "row of the training set to which the first value belongs", "row"),
            _column(
                "influence",
                pa.list_(pa.field("element", pa.float32(), nullable=False)),
                "influence of the training rows from train_start on",
            ),
        ]
    ),
)

SOLUTIONS = TableSpec(
    "solutions",
    "how each test input's (H + lambda I)^-1 g_t was solved for; only with curvature.method cg and lissa",
    pa.schema(
        [
            _TEST_INDEX,
            _column("iterations", pa.int32(), "products with H that its solution took", "iterations"),
            _column("residual", pa.float64(), "||g_t - (H + lambda I) s_t|| / ||g_t||"),
        ]
    ),
)

INFLUENCE_SETS = TableSpec(
    "influence_sets",
    "the set of distinct training examples among the top k of all test inputs (Table 1)",
    pa.schema(
        [
            _METHOD,
            _K,
            _column("test_count", pa.int64(), "number of test inputs", "inputs"),
            _column("cardinality", pa.int64(), "size of the set", "examples"),
            _column("cardinality_ratio", pa.float64(), "cardinality / (k * test_count)"),
            _maybe(
                _column(
                    "probability_mean",
                    pa.float64(),
                    "mean over the set of the model's probability of the example's label",
                )
            ),
            _maybe(
                _column(
                    "probability_std", pa.float64(), "standard deviation over the set of the same (divisor: its size)"
                )
            ),
        ]
    ),
)

OVERLAP = TableSpec(
    "overlap",
    "how much two methods' explanations agree (section 4.3)",
    pa.schema(
        [
            _column("method_a", pa.string(), "first method"),
            _column("method_b", pa.string(), "second method"),
            _K,
            _column("overlap", pa.float64(), "mean over test inputs of the share of the top k in common"),
        ]
    ),
)

CLASS_AGREEMENT = TableSpec(
    "class_agreement",
    "how often the first training example of an explanation is of the test input's class (Hanawa et al. 2021)",
    pa.schema(
        [
            _METHOD,
            _column(
                "test",
                pa.string(),
                "identical_class: the explained class, over all test inputs; identical_subclass: the class before "
                "classes were merged, over the test inputs that are classified right",
            ),
            _column("test_count", pa.int64(), "number of test inputs of the test", "inputs"),
            _column("share", pa.float64(), "share of them whose first example is of the same (sub)class"),
            _column("standard_error", pa.float64(), "sqrt(share (1 - share) / test_count)"),
        ]
    ),
)

MISLABEL_DETECTION = TableSpec(
    "mislabel_detection",
    "how early inspecting training examples by a ranking, highest first, finds those whose labels were flipped",
    pa.schema(
        [
            _column("ranking", pa.string(), "column of train_examples, or quotient of two, by which they are ranked"),
            _column("inspected_share", pa.float64(), "share of the training examples that are inspected"),
            _column("found_share", pa.float64(), "share of the flipped examples that are among them"),
            _column("area", pa.float64(), "area below the curve of found over inspected share; 0.5 is chance"),
        ]
    ),
)

LINEAR_DATAMODELING = TableSpec(
    "linear_datamodeling",
    "what scores say of a model trained on a random subset of the training examples, and its loss, by test input",
    pa.schema(
        [
            _METHOD,
            _TEST_INDEX,
            _column("subset", pa.int32(), "number of the subset, from 0"),
            _column("score_sum", pa.float64(), "sum of the method's scores of the subset's examples"),
            _column("loss", pa.float64(), "loss of explained_label after training on the subset", "nats"),
        ]
    ),
)

LINEAR_DATAMODELING_SCORE = TableSpec(
    "linear_datamodeling_score",
    "how well summed scores order the losses of models trained on subsets (Park et al. 2023)",
    pa.schema(
        [
            _METHOD,
            _column("test_count", pa.int64(), "test inputs whose losses and sums differ between subsets", "inputs"),
            _column("subset_count", pa.int32(), "number of subsets", "subsets"),
            _column(
                "score",
                pa.float64(),
                "mean over test inputs of Spearman's correlation, over subsets, of score_sum with -loss",
            ),
            _column("low", pa.float64(), "lower end of its 95% interval, of resampled subsets and test inputs"),
            _column("high", pa.float64(), "upper end of the same"),
        ]
    ),
)

LEAVE_ONE_OUT = TableSpec(
    "leave_one_out",
    "what happens when the best training example of a method is left out and the model trained again (Tables 2 and 4)",
    pa.schema(
        [
            _METHOD,
            _TEST_INDEX,
            _column("train_index", pa.int64(), "row of the training set that is left out: rank 1 of top_k", "row"),
            _column("predicted_test_loss_change", pa.float64(), "influence / n (Eq. 5)", "nats"),
            _column("test_loss_change", pa.float64(), "loss of explained_label: after retraining minus before", "nats"),
            _column("parameter_change", pa.float64(), "l2 norm of the change of all trainable parameters"),
            _column(
                "train_loss_change",
                pa.float64(),
                "root of the sum over all n training examples, the one left out included, of the squared loss change",
                "nats",
            ),
        ]
    ),
)

LEAVE_ONE_OUT_PREDICTIONS = TableSpec(
    "leave_one_out_predictions",
    "what several curvatures predict of the changes in leave_one_out: a row for each and distinct pair (Fig. 6)",
    pa.schema(
        [
            _column("curvature", pa.string(), "kfac, ekfac, exact, identity, cg or lissa; the run's own comes first"),
            _column("damping", pa.float64(), "lambda of (H + lambda I)^-1; the identity's is 1"),
            _TEST_INDEX,
            _column("train_index", pa.int64(), "row of the training set that is left out", "row"),
            _column("predicted_test_loss_change", pa.float64(), "influence by this curvature / n (Eq. 5)", "nats"),
            _column("test_loss_change", pa.float64(), "loss of explained_label: after retraining minus before", "nats"),
        ]
    ),
)

TABLES = {
    spec.name: spec
    for spec in (
        TRAIN_EXAMPLES,
        TEST_EXAMPLES,
        TOP_K,
        SCORES,
        SOLUTIONS,
        INFLUENCE_SETS,
        OVERLAP,
        CLASS_AGREEMENT,
        MISLABEL_DETECTION,
        LINEAR_DATAMODELING,
        LINEAR_DATAMODELING_SCORE,
        LEAVE_ONE_OUT,
        LEAVE_ONE_OUT_PREDICTIONS,
    )
}
