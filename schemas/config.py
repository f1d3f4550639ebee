"""The configuration of a run: frozen models of its settings. ``--help`` and the README show their descriptions."""

from typing import Annotated, Any

from pydantic import Field, model_validator

from relatif.schemas.curvature_config import CurvatureConfig
from relatif.schemas.data_config import DataConfig
from relatif.schemas.model_config import ModelConfig
from relatif.schemas.score_config import MethodNames, ScoreConfig
from relatif.schemas.section import (
    LARGEST_LIST,
    LARGEST_MACHINE,
    LARGEST_STEP,
    SMALLEST_RESIDUAL,
    Count,
    Counts,
    CurvatureMethod,
    Names,
    Section,
    Seed,
)

__all__ = [
    "ClusterConfig",
    "CurvatureConfig",
    "DataConfig",
    "ModelConfig",
    "RunConfig",
    "ScoreConfig",
    "TrainConfig",
    "flatten",
]

PAPER_INFLUENCE_SET_K = (1, 5)
PAPER_OVERLAP_K = (1, 5, 10, 20)


class TrainConfig(Section):
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


class StatisticsConfig(Section):
    """Which statistics are aggregated; by default the paper's k that do not exceed score.top_k."""

    influence_set_k: Counts | None = Field(
        None, description="k of `influence_sets`; by default 1 and 5, up to `score.top_k`"
    )
    overlap_k: Counts | None = Field(None, description="k of `overlap`; by default 1, 5, 10, 20, up to `score.top_k`")


class EvaluateConfig(Section):
    """Which evaluations are made; by default those that the run's settings allow and that train no models."""

    what: Names | None = Field(
        None,
        min_length=1,
        description="evaluations by name; by default those that the run allows and that train no models",
    )


class LinearDatamodelingConfig(Section):
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


class LeaveOneOutConfig(Section):
    """Which test inputs' best examples are left out in turn."""

    test_count: Count = Field(
        100, description="test inputs, drawn without replacement, whose best examples are left out in turn"
    )
    seed: Seed = Field(0, description="decides which test inputs")
    methods: MethodNames | None = Field(
        None, description="whose best examples are left out; by default those of all scored methods but the opponents"
    )
    curvatures: Annotated[tuple[CurvatureMethod, ...], Field(strict=False)] | None = Field(
        None, min_length=1, description='predict by these `curvature.method`s too, such as `["exact", "ekfac"]`'
    )


class ClusterConfig(Section):
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


class RunConfig(Section):
    """Everything that decides a run's results, and (``cluster``) where they are computed."""

    task: str = Field(
        description="a built-in task (`mnist_logistic`, `cifar_convnet`, `names_lstm`, `toy_logistic`), "
        "`module:function` of your own that returns a Task or a model, or `hugging_face`: the model of the folder "
        "`model.checkpoint`"
    )
    data: DataConfig
    model: ModelConfig = ModelConfig()
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
