"""One pyarrow schema per table: every column with its meaning and unit."""

import pyarrow as pa

from relatif.schemas.columns import (
    LABEL,
    METHOD,
    PREDICTED,
    PREDICTION,
    TARGET,
    TEST_ID,
    TEST_INDEX,
    TRAIN_ID,
    TRAIN_INDEX,
    K,
    TableSpec,
    column,
    maybe,
)
from relatif.schemas.curvature import CURVATURES

TRAIN_EXAMPLES = TableSpec(
    "train_examples",
    "one row per training example: what the model makes of it, and the denominators of relative influence",
    pa.schema(
        [
            TRAIN_INDEX,
            LABEL,
            PREDICTED,
            maybe(column("probability", pa.float32(), "the model's probability of label")),
            column("loss", pa.float32(), "negative log-likelihood of label", "nats"),
            column("gradient_norm", pa.float32(), "||g_i||, l2 norm of the loss gradient", "nats per unit of theta"),
            column("theta_norm", pa.float32(), "||(H + lambda I)^-1 g_i||, denominator of theta-RelatIF (Def. 3.2)"),
            column(
                "self_influence",
                pa.float32(),
                "g_i' (H + lambda I)^-1 g_i, squared denominator of l-RelatIF (Def. 3.4)",
            ),
            TARGET,
            PREDICTION,
            TRAIN_ID,
        ]
    ),
)

TEST_EXAMPLES = TableSpec(
    "test_examples",
    "one row per explained test input",
    pa.schema(
        [
            TEST_INDEX,
            LABEL,
            PREDICTED,
            maybe(column("explained_label", pa.int32(), "class at which the test gradient is taken", "class")),
            maybe(column("probability", pa.float32(), "the model's probability of explained_label")),
            column("loss", pa.float32(), "negative log-likelihood of explained_label", "nats"),
            column("self_influence", pa.float32(), "g_t' (H + lambda I)^-1 g_t"),
            TARGET,
            PREDICTION,
            TEST_ID,
        ]
    ),
)

TOP_K = TableSpec(
    "top_k",
    "the k training examples with the most positive scores, for every test input and method",
    pa.schema(
        [
            METHOD,
            TEST_INDEX,
            column("rank", pa.int32(), "1 for the highest score; ties go to the smaller train_index"),
            TRAIN_INDEX,
            column(
                "score",
                pa.float32(),
                "the method's score; for nearest_neighbour the negative l2 distance of the inputs, for "
                "negative_influence the influence with its sign turned",
            ),
            TRAIN_ID,
        ]
    ),
)

SCORES = TableSpec(
    "scores",
    "the dense matrix of plain influence; relative influence is this divided by a column of train_examples",
    pa.schema(
        [
            TEST_INDEX,
            column("train_start", pa.int64(), "row of the training set to which the first value belongs", "row"),
            column(
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
            TEST_INDEX,
            column("iterations", pa.int32(), "products with H that its solution took", "iterations"),
            column("residual", pa.float64(), "||g_t - (H + lambda I) s_t|| / ||g_t||"),
        ]
    ),
)

INFLUENCE_SETS = TableSpec(
    "influence_sets",
    "the set of distinct training examples among the top k of all test inputs (Table 1)",
    pa.schema(
        [
            METHOD,
            K,
            column("test_count", pa.int64(), "number of test inputs", "inputs"),
            column("cardinality", pa.int64(), "size of the set", "examples"),
            column("cardinality_ratio", pa.float64(), "cardinality / (k * test_count)"),
            maybe(
                column(
                    "probability_mean",
                    pa.float64(),
                    "mean over the set of the model's probability of the example's label",
                )
            ),
            maybe(
                column(
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
            column("method_a", pa.string(), "first method"),
            column("method_b", pa.string(), "second method"),
            K,
            column("overlap", pa.float64(), "mean over test inputs of the share of the top k in common"),
        ]
    ),
)

CLASS_AGREEMENT = TableSpec(
    "class_agreement",
    "how often the first training example of an explanation is of the test input's class (Hanawa et al. 2021)",
    pa.schema(
        [
            METHOD,
            column(
                "test",
                pa.string(),
                "identical_class: the explained class, over all test inputs; identical_subclass: the class before "
                "classes were merged, over the test inputs that are classified right",
            ),
            column("test_count", pa.int64(), "number of test inputs of the test", "inputs"),
            column("share", pa.float64(), "share of them whose first example is of the same (sub)class"),
            column("standard_error", pa.float64(), "sqrt(share (1 - share) / test_count)"),
        ]
    ),
)

MISLABEL_DETECTION = TableSpec(
    "mislabel_detection",
    "how early inspecting training examples by a ranking, highest first, finds those whose labels were flipped",
    pa.schema(
        [
            column("ranking", pa.string(), "what ranks: a column of train_examples, a quotient of two, or label queue"),
            column("inspected_share", pa.float64(), "share of the training examples that are inspected"),
            column("found_share", pa.float64(), "share of the flipped examples that are among them"),
            column("area", pa.float64(), "area below the curve of found over inspected share; 0.5 is chance"),
            maybe(column("right_share", pa.float64(), "of these, share whose right label the queue suggests")),
        ]
    ),
)

LINEAR_DATAMODELING = TableSpec(
    "linear_datamodeling",
    "what scores say of a model trained on a random subset of the training examples, and its loss, by test input",
    pa.schema(
        [
            METHOD,
            TEST_INDEX,
            column("subset", pa.int32(), "number of the subset, from 0"),
            column("score_sum", pa.float64(), "sum of the method's scores of the subset's examples"),
            column(
                "loss",
                pa.float64(),
                "loss of explained_label, or minus score.measurement, after training on the subset",
                "nats",
            ),
        ]
    ),
)

LINEAR_DATAMODELING_SCORE = TableSpec(
    "linear_datamodeling_score",
    "how well summed scores order the losses of models trained on subsets (Park et al. 2023)",
    pa.schema(
        [
            METHOD,
            column("test_count", pa.int64(), "test inputs whose losses and sums differ between subsets", "inputs"),
            column("subset_count", pa.int32(), "number of subsets", "subsets"),
            column(
                "score",
                pa.float64(),
                "mean over test inputs of Spearman's correlation, over subsets, of score_sum with -loss",
            ),
            column("low", pa.float64(), "lower end of its 95% interval, of resampled subsets and test inputs"),
            column("high", pa.float64(), "upper end of the same"),
        ]
    ),
)

CORRECTED_CHANGE = maybe(
    column(
        "corrected_test_loss_change",
        pa.float64(),
        "the same with the example's own curvature taken along, at the outputs that this leads to; null where its "
        "leverage reaches 1, for cg and lissa, and where an example has too many outputs",
        "nats",
    )
)

LEAVE_ONE_OUT = TableSpec(
    "leave_one_out",
    "what happens when the best training example of a method is left out and the model trained again (Tables 2 and 4)",
    pa.schema(
        [
            METHOD,
            TEST_INDEX,
            column("train_index", pa.int64(), "row of the training set that is left out: rank 1 of top_k", "row"),
            column("predicted_test_loss_change", pa.float64(), "influence / n (Eq. 5)", "nats"),
            CORRECTED_CHANGE,
            column(
                "test_loss_change",
                pa.float64(),
                "of the loss of explained_label, or of minus score.measurement: after retraining minus before",
                "nats",
            ),
            column("parameter_change", pa.float64(), "l2 norm of the change of all trainable parameters"),
            column(
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
            column("curvature", pa.string(), f"one of {', '.join(CURVATURES)}; the run's own comes first"),
            column("damping", pa.float64(), "lambda of (H + lambda I)^-1; the identity's is 1"),
            TEST_INDEX,
            column("train_index", pa.int64(), "row of the training set that is left out", "row"),
            column("predicted_test_loss_change", pa.float64(), "influence by this curvature / n (Eq. 5)", "nats"),
            CORRECTED_CHANGE,
            column(
                "test_loss_change",
                pa.float64(),
                "of the loss of explained_label, or of minus score.measurement: after retraining minus before",
                "nats",
            ),
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
