"""The configuration of a run: frozen models of its settings. ``--help`` and the README show their descriptions."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from relatif.schemas.curvature import CURVATURES, CurvatureChoice, curvature_method, eigen_form
from relatif.schemas.errors import ConfigurationError
from relatif.schemas.methods import PAPER_METHODS, in_order

PAPER_INFLUENCE_SET_K = (1, 5)
PAPER_OVERLAP_K = (1, 5, 10, 20)


SMALLEST, LARGEST = 1e-15, 1e15
"""Bounds of the damping: scores divide by it and by its square, which float32, in which tables keep them, holds."""

LARGEST_STEP = 1e6
"""Bound of weight decay and learning rate: beyond it every parameter is 0, or none is finite, after a step."""

SMALLEST_RESIDUAL = 1e-13
"""What float64 can still tell from rounding, relative to what is solved for."""

LARGEST_COUNT = 2**63 - 1
"""What 64 bits hold, as torch, Arrow and the files do."""

LARGEST_LIST = 1_000_000
"""Bound of what is listed or drawn at once in memory."""

LARGEST_MACHINE = 4096
"""Cores of a machine, for each of which Ray starts a process."""

Count = Annotated[int, Field(ge=1, le=LARGEST_COUNT)]
Seed = Annotated[int, Field(ge=0, le=LARGEST_COUNT)]
Counts = Annotated[tuple[int, ...], Field(strict=False)]
Names = Annotated[tuple[str, ...], Field(strict=False)]
CurvatureMethod = Annotated[str, AfterValidator(curvature_method)]
EigenMethod = Annotated[str, AfterValidator(eigen_form)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, validate_default=True, allow_inf_nan=False)


class DataConfig(_Section):
    """Where the examples come from and how they are cut into shards."""

    source: str = Field(description="folder or URL of prepared shards, or of a published format")
    label_column: str | None = Field(
        None, description="column of labels where published files have several; by default the finer of two"
    )
    train_limit: Count | None = Field(None, description="use only the first rows of the training set")
    shard_rows: Count = Field(2000, description="rows of a shard, rounded to whole row groups")
    merge_classes: Count = Field(1, description="so many consecutive classes become one: `label // merge_classes`")
    flip_share: float = Field(
        0.0, ge=0, lt=1, description="share of training labels that become another class, each drawn by its row"
    )
    flip_seed: Seed = Field(0, description="decides which labels are flipped, and to what class")


class TrainConfig(_Section):
    """How the model is trained."""

    weight_decay: float = Field(
        1e-4, ge=0, le=LARGEST_STEP, description="adds `weight_decay / 2 * ||theta||^2` to the mean loss"
    )
    seed: Seed = Field(0, description="decides everything random in training")
    max_iterations: Count = Field(1000, description="iterations of the optimizer before training gives up")
    tolerance: float = Field(
        3e-6, ge=SMALLEST_RESIDUAL, description="largest entry of the preconditioned gradient at the optimum"
    )
    epochs: Count = Field(20, description="minibatch recipes: passes over the training set")
    batch_size: Count = Field(128, description="minibatch recipes: examples of a step")
    learning_rate: float = Field(0.05, gt=0, le=LARGEST_STEP, description="minibatch recipes: largest step size")
    momentum: float = Field(0.9, ge=0, lt=1, description="minibatch recipes: momentum of SGD")


class CurvatureConfig(CurvatureChoice, _Section):
    """Which curvature H stands in (H + lambda I)^-1."""

    method: CurvatureMethod = Field("kfac", description="one of " + ", ".join(f"`{name}`" for name in CURVATURES))
    damping: float = Field(
        1e-3, ge=SMALLEST, le=LARGEST, description="lambda of `(H + lambda I)^-1`; the identity's is 1 by definition"
    )
    exact_matrix: Literal["fisher", "hessian"] = Field(
        "fisher",
        description="with `exact`: `fisher`, or `hessian` of the training loss where, damped, it is positive definite",
    )
    denominators: EigenMethod = Field(
        "kfac", description="with `cg` and `lissa`: the curvature by which RelatIF divides; it preconditions `cg` too"
    )
    layers: Names | None = Field(
        None, min_length=1, description='layers by patterns, `["head", "blocks.*"]`; scores from their parameters alone'
    )
    fisher: Literal["exact", "sampled", "empirical"] = Field(
        "exact", description="`exact` sums over the model's labels, `sampled` draws some, `empirical` takes the data's"
    )
    fisher_samples: Count = Field(
        1, le=LARGEST_LIST, description="labels drawn for each training example, with `sampled`"
    )
    fisher_seed: Seed = Field(0, description="with an example's row it decides which labels are drawn")
    cg_tolerance: float = Field(
        1e-6, ge=SMALLEST_RESIDUAL, lt=1, description="largest relative residual of `cg`; more raises an error"
    )
    cg_max_iterations: Count = Field(500, description="iterations before `cg` gives up")
    lissa_depth: Count = Field(5000, description="steps of the recursion of `lissa`")
    lissa_repeats: Count = Field(1, description="recursions of `lissa` whose results are averaged")
    lissa_batch_size: Count = Field(
        512, le=LARGEST_LIST, description="training examples of a step of `lissa`, drawn in runs of 64 consecutive rows"
    )
    lissa_scale: float | None = Field(
        None,
        ge=SMALLEST,
        le=LARGEST,
        description="divisor in `lissa`, above its batches' largest eigenvalue; by default estimated",
    )
    lissa_tolerance: float = Field(
        0.5, ge=SMALLEST_RESIDUAL, lt=1, description="largest relative residual of `lissa`; more raises an error"
    )
    lissa_seed: Seed = Field(0, description="decides which examples `lissa` draws")

    @model_validator(mode="after")
    def _hessian_is_exact(self) -> "CurvatureConfig":
        if self.exact_matrix == "hessian" and self.method != "exact":
            raise ValueError(
                f"curvature.exact_matrix = hessian goes with curvature.method = exact, found {self.method}; the "
                f"curvature of every other method is a Fisher"
            )
        return self


class ScoreConfig(_Section):
    """What is scored, and which results are kept."""

    methods: Names = Field(
        PAPER_METHODS, min_length=1, description="methods that are scored, by the names in the table of methods"
    )
    top_k: Count = Field(20, lt=2**31, description="how many examples are kept for each test input and method")
    explained_label: Literal["predicted", "true"] | Annotated[int, Field(lt=2**31)] = Field(
        "predicted", description="`predicted`, `true` or a class number: the label of the test gradient"
    )
    test_limit: Count | None = Field(None, description="use only the first rows of the test set")
    write_scores: bool = Field(False, description="also write the dense influence matrix")
    test_block_rows: Count = Field(10_000, description="test rows that an actor holds at once")
    unit_rows: Count = Field(10_000, description="training rows of a unit of durable work, rounded to whole shards")

    @field_validator("methods")
    @classmethod
    def _methods_are_known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        try:
            return in_order(value)
        except ConfigurationError as error:
            raise ValueError(str(error)) from error

    @field_validator("explained_label", mode="before")
    @classmethod
    def _label_is_named_or_numbered(cls, value: Any) -> Any:
        # Without quotes TOML's true is a boolean, which as an integer would mean class 1.
        label = "true" if value is True else value
        if label is False or (isinstance(label, int) and label < 0):
            raise ValueError("expected 'predicted', 'true' or a class number from 0")
        return label


class StatisticsConfig(_Section):
    """Which statistics are aggregated; by default the paper's k that do not exceed score.top_k."""

    influence_set_k: Counts | None = Field(
        None, description="k of `influence_sets`; by default 1 and 5, up to `score.top_k`"
    )
    overlap_k: Counts | None = Field(None, description="k of `overlap`; by default 1, 5, 10, 20, up to `score.top_k`")


class EvaluateConfig(_Section):
    """Which evaluations are made; by default those that the run's settings allow and that train no models."""

    what: Names | None = Field(
        None,
        min_length=1,
        description="evaluations by name; by default those that the run allows and that train no models",
    )


class LinearDatamodelingConfig(_Section):
    """On which random subsets of the training set models are trained, to compare their losses with summed scores."""

    subset_count: int = Field(
        100,
        ge=10,
        le=LARGEST_LIST,
        description="random subsets of the training set, on each of which a model is trained",
    )
    subset_share: float = Field(0.5, gt=0, lt=1, description="share of the training examples that a subset has")
    trainings: Count = Field(
        1,
        le=LARGEST_LIST,
        description="models of each subset, by seeds from `train.seed` on, whose losses are averaged",
    )
    test_count: Count = Field(100, description="test inputs, drawn without replacement")
    seed: Seed = Field(0, description="decides which subsets and which test inputs")


class LeaveOneOutConfig(_Section):
    """Which test inputs' best examples are left out in turn."""

    test_count: Count = Field(
        100, description="test inputs, drawn without replacement, whose best examples are left out in turn"
    )
    seed: Seed = Field(0, description="decides which test inputs")
    curvatures: Annotated[tuple[CurvatureMethod, ...], Field(strict=False)] | None = Field(
        None, min_length=1, description='predict by these `curvature.method`s too, such as `["exact", "ekfac"]`'
    )


class ClusterConfig(_Section):
    """The resources that are asked of Ray. Results do not depend on them."""

    workers: Count | None = Field(None, description="score actors; by default as many as the cluster's cores feed")
    threads_per_worker: Count | None = Field(None, description="cores of an actor; by default a node's, up to 8")
    gpus_per_worker: float | None = Field(None, ge=0, description="GPUs of an actor; by default 1 where there are any")
    shards_per_task: Count = Field(4, description="training shards of one factor task")
    local_cpus: Count | None = Field(
        None, le=LARGEST_MACHINE, description="cores of a Ray started here; by default all"
    )
    lease_s: float = Field(
        60.0, gt=0, description="seconds without a sign of life after which another run may take this one's `--out`"
    )
    object_store_bytes: int = Field(512 * 2**20, ge=80 * 2**20, description="object store of a Ray started here")
    max_retries: int = Field(
        3, ge=0, le=LARGEST_LIST, description="how often a unit is tried again after its worker was lost"
    )
    patience_s: float = Field(300.0, gt=0, description="seconds without anybody at work after which a run gives up")


class RunConfig(_Section):
    """Everything that decides a run's results, and (``cluster``) where they are computed."""

    task: str = Field(
        description="a built-in task (`mnist_logistic`, `cifar_convnet`, `names_lstm`, `toy_logistic`), or "
        "`module:function` of your own"
    )
    data: DataConfig
    train: TrainConfig = TrainConfig()
    curvature: CurvatureConfig = CurvatureConfig()
    score: ScoreConfig = ScoreConfig()
    statistics: StatisticsConfig = StatisticsConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    linear_datamodeling: LinearDatamodelingConfig = LinearDatamodelingConfig()
    leave_one_out: LeaveOneOutConfig = LeaveOneOutConfig()
    cluster: ClusterConfig = ClusterConfig()

    @model_validator(mode="after")
    def _statistics_within_top_k(self) -> "RunConfig":
        for name in ("influence_set_k", "overlap_k"):
            asked = getattr(self.statistics, name)
            if asked is not None and (not asked or min(asked) < 1 or max(asked) > self.score.top_k):
                raise ValueError(
                    f"statistics.{name} must lie between 1 and score.top_k = {self.score.top_k}, found {list(asked)}; "
                    f"raise score.top_k or drop the larger k"
                )
        return self

    @property
    def influence_set_k(self) -> tuple[int, ...]:
        """The k for which influence sets are counted."""
        return self._within_top_k(self.statistics.influence_set_k, PAPER_INFLUENCE_SET_K)

    @property
    def overlap_k(self) -> tuple[int, ...]:
        """The k for which overlaps of top-k sets are measured."""
        return self._within_top_k(self.statistics.overlap_k, PAPER_OVERLAP_K)

    def _within_top_k(self, asked: tuple[int, ...] | None, default: tuple[int, ...]) -> tuple[int, ...]:
        return asked if asked is not None else tuple(k for k in default if k <= self.score.top_k)


def flatten(config: RunConfig) -> dict[str, Any]:
    """Return ``{"section.key": value}`` with JSON values for every setting."""
    flat: dict[str, Any] = {}
    for key, value in config.model_dump(mode="json").items():
        if isinstance(value, dict):
            flat.update({f"{key}.{inner}": inner_value for inner, inner_value in value.items()})
        else:
            flat[key] = value
    return flat
