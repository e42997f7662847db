"""What a search optimises and what it must keep: objectives with a stated direction, and bounds."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any, Literal

from ..errors import UserError, check_least
from ..values import Metric, number_text

Function = Callable[..., Any]
"""One architecture to a number; or, where `batched` is stated, a list of them to as many numbers.

A generator of numbers is best: each is stored as it comes."""

SMALL, LARGE = Metric(""), Metric("", better="max")
"""What is known of a number of which only the direction is stated."""


@dataclass(frozen=True)
class Objective:
    """A number to be made small or large. NaN or infinity says that the architecture failed; the search goes on.

    metric: which way is better, and how values are written.
    key: says what is measured, of which weights, on which data. Studies of one storage share the values of a key.
    repeats: how often a noisy function is called for each architecture; the value is the mean.
    """

    function: Function
    metric: Metric
    batched: bool = False
    key: str | None = None
    repeats: int = 1

    def __post_init__(self) -> None:
        check_least(1, repeats=self.repeats)

    @property
    def direction(self) -> Literal["minimize", "maximize"]:
        """In Optuna's words."""
        return "minimize" if self.metric.better == "min" else "maximize"

    def text(self, value: float) -> str:
        """A value without the unit, which the name of an objective ends with."""
        return number_text(value) if self.metric.unit else self.metric.text(value)


def minimize(function: Function, *, batched: bool = False, key: str | None = None, repeats: int = 1) -> Objective:
    """An objective to minimize.

    function: takes an architecture and returns a number; NaN or infinity says that the architecture failed.
    batched: the function takes a list of n architectures and returns n numbers.
    key: names what is measured, of which weights, on which data: studies of one storage share the values of a key.
    repeats: how often a noisy function is called for each architecture; the value is the mean.

    >>> latency = nas.minimize(lambda a: device.latency(cost(a)).high)
    """
    return Objective(function, SMALL, batched, key, repeats)


def maximize(function: Function, *, batched: bool = False, key: str | None = None, repeats: int = 1) -> Objective:
    """An objective to maximize; the arguments are those of `minimize`.

    >>> quality = nas.maximize(lambda a: nas.evaluate_subnet(supernet, task, a))
    """
    return Objective(function, LARGE, batched, key, repeats)


@dataclass(frozen=True)
class Constraint:
    """Inclusive bounds that an architecture must keep.

    name: of the objective that is bounded; or of the column for the values of `function`, which takes an architecture.
    upper, lower: at least one of them. batched: as of `minimize`.
    Errors: no bound, or one that is not finite.

    >>> small = nas.Constraint("params", upper=10_000, function=lambda a: cost(a).params)
    """

    name: str
    upper: float | None = None
    lower: float | None = None
    function: Function | None = None
    batched: bool = False

    def __post_init__(self) -> None:
        if self.upper is None and self.lower is None:
            raise UserError(f"constraint {self.name!r} has no bound; state upper=, lower= or both")
        if not all(isfinite(bound) for bound in (self.upper, self.lower) if bound is not None):
            raise UserError(
                f"constraint {self.name!r} has the bounds upper={self.upper}, lower={self.lower}; bounds must be "
                "finite, and a side without a bound is left out"
            )

    def violations(self, value: float) -> list[float]:
        """By how much each bound is exceeded, relative to the bound where that is not zero; at most 0 where it holds.

        Relative, so that milliseconds and parameters weigh alike when the search compares two infeasible nets.
        """
        above = [] if self.upper is None else [(value - self.upper) / (abs(self.upper) or 1.0)]
        below = [] if self.lower is None else [(self.lower - value) / (abs(self.lower) or 1.0)]
        return above + below


def as_objective(name: str, given: object) -> Objective:
    """An Objective as it is, or from a pair of function and direction in either order. Error: no direction stated."""
    match given:
        case Objective():
            return given
        case (function, "minimize" | "maximize" as direction) | ("minimize" | "maximize" as direction, function) if (
            callable(function)
        ):
            return Objective(function, SMALL if direction == "minimize" else LARGE)
    raise UserError(
        f"objective {name!r} states no direction; write minimize(f), maximize(f) or the pair (f, 'minimize'|'maximize')"
    )


def as_objectives(given: Mapping[str, Any]) -> dict[str, Objective]:
    """The objectives by name, at least one."""
    if not given:
        raise UserError("a search needs at least one objective, as {'latency_ms': minimize(f)}")
    return {name: as_objective(name, objective) for name, objective in given.items()}
