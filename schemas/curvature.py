"""What the settings of a curvature mean: the eigen form that is built, and the damping that is used."""

from relatif.schemas.builders import BUILDERS

IDENTITY_DAMPING = 1.0
"""The identity is H + lambda I with H = 0 and lambda = 1 (the paper's "gradient")."""

ITERATIVE_METHODS = ("cg", "lissa")

CURVATURES = (*BUILDERS, *ITERATIVE_METHODS)
"""The names that ``curvature.method`` takes."""


def eigen_form(name: str) -> str:
    """Return the name of a curvature in eigen form; ValueError for any other name."""
    if name not in BUILDERS:
        raise ValueError(f"expected one of {', '.join(BUILDERS)}")
    return name


def curvature_method(name: str) -> str:
    """Return the name of a curvature, in eigen form or solved for; ValueError for any other name."""
    if name not in CURVATURES:
        raise ValueError(f"expected one of {', '.join(CURVATURES)}")
    return name


class CurvatureChoice:
    """Derived from the settings ``method``, ``denominators`` and ``damping`` of a curvature."""

    method: str
    denominators: str
    damping: float

    @property
    def is_iterative(self) -> bool:
        """Whether numerators are solved for each test input instead of read off an eigendecomposition."""
        return self.method in ITERATIVE_METHODS

    @property
    def eigen_method(self) -> str:
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
