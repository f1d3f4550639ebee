"""Which parameters of a model are explained, by which rule, and why the others are not. None is left out silently."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import nn

from relatif.pipeline.curvature.rules import BIAS_RULE, RULES, Rule, bias_rule_for, rule_for
from relatif.schemas.errors import ModelError

FROZEN = "frozen: requires_grad is False"
NOT_CHOSEN = "not among curvature.layers"


@dataclass(frozen=True)
class CoveredLayer:
    """A layer with the rule that covers it."""

    name: str
    module: nn.Module
    rule: Rule

    @property
    def blocks(self) -> dict[str, tuple[int, int]]:
        """Return (O, I) of its blocks by name: the layer's own name, or one for each group of a convolution."""
        shapes = self.rule.shapes(self.module)
        if len(shapes) == 1:
            return {self.name: shapes[0]}
        return {f"{self.name}.group{place}": shape for place, shape in enumerate(shapes)}


@dataclass(frozen=True)
class ParameterCoverage:
    """A parameter by its PyTorch name, how many numbers it has, whether it is covered, and how or why not."""

    name: str
    count: int
    covered: bool
    reason: str


@dataclass(frozen=True)
class Coverage:
    """The covered layers by name, in the model's order, and how every parameter is covered, or why it is not."""

    layers: Mapping[str, CoveredLayer]
    parameters: tuple[ParameterCoverage, ...]

    @property
    def blocks(self) -> dict[str, tuple[int, int]]:
        """Return (O, I) of every block by name."""
        return {name: shape for layer in self.layers.values() for name, shape in layer.blocks.items()}

    @property
    def covered_count(self) -> int:
        """Number of parameters P that scores take into account."""
        return sum(parameter.count for parameter in self.parameters if parameter.covered)

    @property
    def total_count(self) -> int:
        """Number of parameters of the model."""
        return sum(parameter.count for parameter in self.parameters)


def coverage(model: nn.Module, patterns: Sequence[str] | None = None) -> Coverage:
    """Return what is covered of a model: all trainable parameters, or those of the layers that match a pattern.

    Patterns are those of file names (``*``, ``?``, ``[...]``) over the names of layers. Raises ModelError for a chosen
    trainable parameter that no rule covers, for tied or composed weights, for a layer that is frozen in part, for a
    pattern that matches nothing, for parameters without shape or of complex numbers, and for a model without a
    covered layer.
    """
    layers: dict[str, CoveredLayer] = {}
    parameters: list[ParameterCoverage] = []
    owned = {name: module for name, module in model.named_modules() if _own(module)}
    _check_kinds(owned)
    _check_patterns(patterns, owned)
    for name, module in owned.items():
        chosen = patterns is None or any(fnmatchcase(name, pattern) for pattern in patterns)
        trainable = {key for key, parameter in _own(module).items() if parameter.requires_grad}
        if chosen and trainable:
            layers[name] = CoveredLayer(name, module, _rule(name, module, trainable))
            rule = layers[name].rule
            how = "exact block" if rule.elementwise or rule is BIAS_RULE else "Kronecker factors"
        else:
            how = NOT_CHOSEN if trainable else FROZEN
        parameters += [
            ParameterCoverage(_path(name, key), parameter.numel(), name in layers and key in trainable, reason)
            for key, parameter in _own(module).items()
            for reason in (how if key in trainable else FROZEN,)
        ]
    _check_ties(owned, layers)
    if not layers:
        raise ModelError(
            f"expected a model with trainable layers of {_covered_types()}, found none; unfreeze one, or choose others "
            f"by curvature.layers"
        )
    return Coverage(layers, tuple(parameters))


def coverage_text(covered: Coverage) -> str:
    """Return in one line how many parameters are covered, and how many are not, by reason."""
    skipped = [parameter for parameter in covered.parameters if not parameter.covered]
    reasons = {parameter.reason: 0 for parameter in skipped}
    for parameter in skipped:
        reasons[parameter.reason] += parameter.count
    rest = "".join(f"; {count:,} {reason}" for reason, count in reasons.items())
    return f"{covered.covered_count:,} of {covered.total_count:,} parameters in {len(covered.layers)} layer(s){rest}"


def _check_kinds(owned: Mapping[str, nn.Module]) -> None:
    """Refuse parameters that have no shape yet, and complex ones: no rule is made for them."""
    for name, module in owned.items():
        for key, parameter in _own(module).items():
            if isinstance(parameter, nn.parameter.UninitializedParameter):
                raise ModelError(
                    f"expected parameters with a shape, found {_path(name, key)} of a lazy layer without one; let "
                    f"build_model() call the model once, or give the layer its size"
                )
            if parameter.requires_grad and parameter.is_complex():
                raise ModelError(
                    f"expected trainable parameters of real numbers, found {_path(name, key)} of {parameter.dtype}; "
                    f"freeze it, or give its real and imaginary parts a layer each"
                )


def _own(module: nn.Module) -> dict[str, nn.Parameter]:
    return dict(module.named_parameters(recurse=False))


def _rule(name: str, module: nn.Module, trainable: set[str]) -> Rule:
    # Backwards, so that an error names the weight before the bias.
    first = _path(name, sorted(trainable, reverse=True)[0])
    rule = rule_for(module)
    if rule is None:
        raise ModelError(
            f"expected trainable parameters only in layers of {_covered_types()}, found {first} of "
            f"{type(module).__name__}; freeze it with requires_grad_(False), leave it out by curvature.layers, or use "
            f"a layer that is covered"
        )
    # Parametrizations hold parameters of their own, in modules below this one.
    trained = {id(parameter) for parameter in module.parameters() if parameter.requires_grad}
    alone = bias_rule_for(module) if trainable == {"bias"} and len(trained) == 1 else None
    if alone is not None:
        return alone
    _check_composed(name, module)
    frozen = set(_own(module)) - trainable
    if frozen:
        raise ModelError(
            f"expected layer {name!r} trainable or frozen as a whole, found {sorted(frozen)} frozen and "
            f"{sorted(trainable)} trainable; set requires_grad alike"
        )
    return rule


def _check_composed(name: str, module: nn.Module) -> None:
    """Refuse a layer whose weight is made of other numbers: its gradient is not that of what is trained."""
    used = {key for key in ("weight", "bias") if getattr(module, key, None) is not None}
    composed, unknown = sorted(used - set(_own(module))), sorted(set(_own(module)) - used)
    if composed:
        made_of = [_path(name, key) for key in unknown] or [_path(name, f"parametrizations.{composed[0]}")]
        raise ModelError(
            f"expected the parameters of layer {name!r} to be its own, found {_path(name, composed[0])} made of "
            f"{', '.join(made_of)} (a weight or spectral norm, a parametrization, a pruning mask); remove that before "
            f"training, freeze the whole layer, or leave it out by curvature.layers"
        )
    if unknown:
        raise ModelError(
            f"expected layer {name!r} to have a weight and a bias alone, found {_path(name, unknown[0])} too; put it "
            f"into a layer of its own, freeze the whole layer, or leave it out by curvature.layers"
        )


def _check_ties(owned: Mapping[str, nn.Module], layers: Mapping[str, CoveredLayer]) -> None:
    """Refuse a covered parameter that another layer uses too: its gradient would lack that layer's part."""
    users: dict[int, list[tuple[str, str]]] = {}
    for name, module in owned.items():
        for key, parameter in _own(module).items():
            if not parameter.requires_grad:
                continue  # it has no gradient that could lack a part
            users.setdefault(id(parameter), []).append((name, key))
    for places in users.values():
        if len(places) > 1 and any(name in layers for name, _ in places):
            first, second = (_path(*place) for place in places[:2])
            raise ModelError(f"expected every parameter in one layer, found {second} tied to {first}; untie them")


def _check_patterns(patterns: Sequence[str] | None, owned: Mapping[str, nn.Module]) -> None:
    for pattern in patterns or ():
        if not any(fnmatchcase(name, pattern) for name in owned):
            raise ModelError(
                f"expected the pattern {pattern!r} of curvature.layers to match a layer with parameters, found "
                f"{', '.join(owned) or 'none'}; name one of those"
            )


def _covered_types() -> str:
    return ", ".join(kind.__name__ for kind in RULES)


def _path(name: str, key: str) -> str:
    return f"{name}.{key}".lstrip(".")
