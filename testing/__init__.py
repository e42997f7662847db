"""Contracts of what extends the package, as functions: the tests of the package hold its own parts to the same ones.

`check_operator("mixer", "mine")` raises AssertionError at the first check that fails; `operator_checks` takes the same
and returns all checks by name, for `pytest.mark.parametrize`. `nas.register` names what is not of the package.
"""

from .algorithms import algorithm_checks, check_algorithm
from .devices import check_device, device_checks
from .operators import check_operator, operator_checks
from .predictors import check_predictor, predictor_checks
from .tasks import check_task, task_checks

__all__ = [
    "algorithm_checks",
    "check_algorithm",
    "check_device",
    "check_operator",
    "check_predictor",
    "check_task",
    "device_checks",
    "operator_checks",
    "predictor_checks",
    "task_checks",
]
