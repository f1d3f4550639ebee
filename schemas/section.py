"""What every section of settings is made of: a frozen model, and the numbers that a setting may be."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from relatif.schemas.curvature import curvature_method, eigen_form

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


class Section(BaseModel):
    """Settings of one part; unknown names and values of other types are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, validate_default=True, allow_inf_nan=False)
