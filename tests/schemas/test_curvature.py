"""What the settings of a curvature mean, method by method."""

from typing import get_args

import pytest

from relatif.schemas.config import CurvatureConfig
from relatif.schemas.curvature import ITERATIVE_METHODS, CurvatureMethod, EigenMethod

DAMPING = 0.25

EIGEN_FORMS = ("kfac", "ekfac", "exact", "identity")


def settings(method: str, denominators: str = "kfac") -> CurvatureConfig:
    return CurvatureConfig.model_validate({"method": method, "denominators": denominators, "damping": DAMPING})


def test_every_method_is_an_eigen_form_or_iterative() -> None:
    assert get_args(EigenMethod) == EIGEN_FORMS
    assert set(get_args(CurvatureMethod)) == {*EIGEN_FORMS, *ITERATIVE_METHODS}


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
