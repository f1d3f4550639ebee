"""The curvatures in eigen form by name, and where each one's builder is defined. A new curvature is an entry here."""

from collections.abc import Mapping

BUILDERS: Mapping[str, str] = {
    "kfac": "relatif.pipeline.stages.kronecker_factors:KFAC",
    "ekfac": "relatif.pipeline.stages.kronecker_factors:EKFAC",
    "exact": "relatif.pipeline.stages.exact_factors:EXACT",
    "identity": "relatif.pipeline.stages.kronecker_factors:IDENTITY",
}
"""``module:name`` by the names that ``curvature.method`` and ``curvature.denominators`` take."""
