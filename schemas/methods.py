"""The methods by which training examples are scored for a query, as values. A new method is an entry here.

A score is ``sign * numerator / denominator``: the numerator belongs to the pair, the denominator to the example. The
numerator ``distance`` has one method, ``nearest_neighbour``: bounds and top k are made for small distances first.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from relatif.schemas.errors import ConfigurationError

INFLUENCE: Final = "influence"
GRADIENT: Final = "gradient"
DISTANCE: Final = "distance"

Numerator = Literal["influence", "gradient", "distance"]
"""``g_t' (H + lambda I)^-1 g_i``, the plain inner product ``g_t' g_i``, or the l2 distance of the model's inputs."""


@dataclass(frozen=True)
class Method:
    """One way to score.

    ``title`` is what people read. ``denominator`` names a column of ``train_examples`` (None: 1); with ``root`` the
    column holds the denominator's square. ``normalized`` divides by the query's own norm too, which ranks alike and
    makes a cosine. ``sign`` is -1 where the lowest numerators rank first. ``additive`` says that scores of several
    examples can be added up; their numerator is influence.
    """

    name: str
    title: str
    numerator: Numerator
    denominator: str | None = None
    root: bool = False
    normalized: bool = False
    sign: Literal[1, -1] = 1
    additive: bool = False


METHODS: Mapping[str, Method] = {
    method.name: method
    for method in (
        Method("influence", "IF", INFLUENCE, additive=True),  # Eq. 3
        Method("theta_relatif", "theta-RelatIF", INFLUENCE, "theta_norm", additive=True),  # Def. 3.2
        Method("l_relatif", "l-RelatIF", INFLUENCE, "self_influence", root=True, additive=True),  # Def. 3.4
        Method("nearest_neighbour", "nearest neighbour", DISTANCE, sign=-1),
        Method(  # Hanawa et al. 2021
            "gradient_cosine", "gradient cosine", GRADIENT, "gradient_norm", normalized=True
        ),
        Method("negative_influence", "negative IF", INFLUENCE, sign=-1, additive=True),
    )
}
"""All methods by name, in the order in which tables and reports list them."""

PAPER_METHODS = ("influence", "theta_relatif", "l_relatif", "nearest_neighbour")
"""The paper's four, which its tables compare."""

OPPONENTS = ("negative_influence",)
"""Methods whose top k are the examples that harm, which explain by the sign of another method."""

DEFAULT_METHODS = (*PAPER_METHODS, *OPPONENTS)
"""What is scored by default: the paper's four, and the opponents by influence."""


def explaining(names: Iterable[str]) -> tuple[str, ...]:
    """Return the methods whose top k help, in the order of METHODS; all where every one shows opponents.

    >>> explaining(["negative_influence", "influence"])
    ('influence',)
    """
    found = in_order(names)
    return tuple(name for name in found if name not in OPPONENTS) or found


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Return names of methods, each once, in the order of METHODS; ConfigurationError for an unknown one."""
    found = set(names)
    unknown = sorted(found - set(METHODS))
    if unknown:
        raise ConfigurationError(
            f"expected methods among {', '.join(METHODS)}, found {', '.join(unknown)}; use those names"
        )
    return tuple(name for name in METHODS if name in found)


def methods_of(names: Iterable[str]) -> tuple[Method, ...]:
    """Return methods by name, in the order of METHODS; raises as ``in_order``."""
    return tuple(METHODS[name] for name in in_order(names))
