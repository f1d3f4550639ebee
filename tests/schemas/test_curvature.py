"""What the settings of a curvature mean, method by method."""

import pytest

from relatif.schemas.builders import BUILDERS
from relatif.schemas.config import CurvatureConfig
from relatif.schemas.curvature import ITERATIVE_METHODS, curvature_method, eigen_form

DAMPING = 0.25

EIGEN_FORMS = tuple(BUILDERS)


def settings(method: str, denominators: str = "kfac") -> CurvatureConfig:
    return CurvatureConfig.model_validate({"method": method, "denominators": denominators, "damping": DAMPING})


def test_every_name_is_an_eigen_form_or_iterative() -> None:
    assert ITERATIVE_METHODS == ("cg", "lissa")
    assert [eigen_form(name) for name in EIGEN_FORMS] == list(EIGEN_FORMS)
    every = [*EIGEN_FORMS, *ITERATIVE_METHODS]
    assert [curvature_method(name) for name in every] == every


@pytest.mark.parametrize("name", ["cg", "lissa", "hessian", "KFAC", ""])
def test_what_is_no_eigen_form_is_refused_with_those_there_are(name: str) -> None:
    with pytest.raises(ValueError, match="expected one of " + ", ".join(EIGEN_FORMS) + "$"):
        eigen_form(name)


@pytest.mark.parametrize("name", ["hessian", "KFAC", ""])
def test_what_is_no_curvature_is_refused_with_those_there_are(name: str) -> None:
    with pytest.raises(ValueError, match="expected one of " + ", ".join((*EIGEN_FORMS, *ITERATIVE_METHODS)) + "$"):
        curvature_method(name)


@pytest.mark.parametrize("denominators", EIGEN_FORMS)
@pytest.mark.parametrize("method", EIGEN_FORMS)
def test_an_eigen_form_is_its_own_whatever_denominators_say(method: str, denominators: str) -> None:
    curvature = settings(method, denominators)
    assert not curvature.is_iterative
    assert curvature.eigen_method == method
    assert curvature.eigen_damping == curvature.effective_damping == (1.0 if method == "identity" else DAMPING)


@pytest.mark.parametrize("denominators", EIGEN_FORMS)
@pytest.mark.parametrize("method", ITERATIVE_METHODS)
def test_an_iterative_method_has_the_eigen_form_of_its_denominators(method: str, denominators: str) -> None:
    curvature = settings(method, denominators)
    assert curvature.is_iterative
    assert curvature.eigen_method == denominators
    assert curvature.eigen_damping == (1.0 if denominators == "identity" else DAMPING)
    assert curvature.effective_damping == DAMPING, "numerators are damped as configured"
