"""Settings of the curvature."""

from typing import Literal

from pydantic import Field, model_validator

from relatif.schemas.curvature import CURVATURES, CurvatureChoice
from relatif.schemas.section import (
    LARGEST,
    LARGEST_LIST,
    SMALLEST,
    SMALLEST_RESIDUAL,
    Count,
    CurvatureMethod,
    EigenMethod,
    Names,
    Section,
    Seed,
)


class CurvatureConfig(CurvatureChoice, Section):
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
    precision: Literal["float64", "float32", "amp"] | None = Field(
        None,
        description="`float64`, `float32`, or `amp`: bfloat16 where torch's autocast takes it, on GPUs; by default "
        "float64 up to 10,000,000 covered parameters, float32 above, and float64 with `exact`, `cg` and `lissa`",
    )
    exclude: Names = Field(
        (), description='layers and parameters that are left out, by patterns, `["lm_head", "*.bias"]`'
    )
    fisher: Literal["exact", "sampled", "empirical"] | None = Field(
        None,
        description="`exact` sums over the model's targets, `sampled` draws some, `empirical` takes the data's; by "
        "default `exact`, but `sampled` for tokens and pixels",
    )
    fisher_samples: Count = Field(
        1, le=LARGEST_LIST, description="targets drawn for each training example, with `sampled`"
    )
    fisher_seed: Seed = Field(0, description="with an example's row it decides which targets are drawn")
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

    @property
    def chosen(self) -> tuple[tuple[str, ...] | None, tuple[str, ...]]:
        """Patterns of the layers that are explained, None for all, and of what is left out."""
        return self.layers, self.exclude

    @model_validator(mode="after")
    def _hessian_is_exact(self) -> "CurvatureConfig":
        if self.exact_matrix == "hessian" and self.method != "exact":
            raise ValueError(
                f"curvature.exact_matrix = hessian goes with curvature.method = exact, found {self.method}; the "
                f"curvature of every other method is a Fisher"
            )
        return self

    @model_validator(mode="after")
    def _dense_matrices_are_float64(self) -> "CurvatureConfig":
        if self.precision in ("float32", "amp") and self.method in ("exact", "cg", "lissa"):
            raise ValueError(
                f"curvature.precision = {self.precision} goes with kfac, ekfac and identity, found {self.method}, "
                f"whose matrices and solutions are float64; leave the setting out, or choose another curvature.method"
            )
        return self
