"""What the settings of a curvature mean: the eigen form that is built, and the damping that is used."""

from typing import Literal

IDENTITY_DAMPING = 1.0
"""The identity is H + lambda I with H = 0 and lambda = 1 (the paper's "gradient")."""

ITERATIVE_METHODS = ("cg", "lissa")

CurvatureMethod = Literal["kfac", "ekfac", "exact", "identity", "cg", "lissa"]
EigenMethod = Literal["kfac", "ekfac", "exact", "identity"]


class CurvatureChoice:
    """Derived from the settings ``method``, ``denominators`` and ``damping`` of a curvature."""

    method: CurvatureMethod
    denominators: EigenMethod
    damping: float

    @property
    def is_iterative(self) -> bool:
        """Whether numerators are solved for each test input instead of read off an eigendecomposition."""
        return self.method in ITERATIVE_METHODS

    @property
    def eigen_method(self) -> EigenMethod:
        """The curvature in eigen form that is built: the method's own, or that of the denominators."""
        match self.method:
            case "cg" | "lissa":
                return self.denominators
            case eigen_form:
                return eigen_form

    @property
    def eigen_damping(self) -> float:
        """Damping of the curvature in eigen form: 1 for the identity, the configured one for every other."""
        return IDENTITY_DAMPING if self.eigen_method == "identity" else self.damping

    @property
    def effective_damping(self) -> float:
        """Damping of the numerators: 1 for the identity, the configured one for every other method."""
        return IDENTITY_DAMPING if self.method == "identity" else self.damping
