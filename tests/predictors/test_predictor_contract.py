"""Every method of the registry keeps the contract; a new file in `methods/` is tested by being there."""

from collections.abc import Callable

import pytest

from nas.predictors import load_method, method_names
from nas.testing import predictor_checks

CHECKS = [
    pytest.param(check, id=f"{method}-{name}")
    for method in method_names()
    for name, check in predictor_checks(method).items()
]


@pytest.mark.parametrize("check", CHECKS)
def test_methods_keep_the_contract(check: Callable[[], None]) -> None:
    check()


@pytest.mark.parametrize("name", method_names())
def test_registered_methods_have_their_names(name: str) -> None:
    assert load_method(name).name == name
