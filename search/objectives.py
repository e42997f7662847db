"""What a search optimises and what it must keep: objectives with a stated direction, and bounds."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, Literal

from ..errors import UserError

Direction = Literal["minimize", "maximize"]
Metric = Callable[..., Any]
"""One architecture to a number; or, where `batched` is stated, a list of them to as many numbers.

A generator of numbers is best: each is stored as it comes. Where `fidelities` are stated, one of them comes second."""


@dataclass(frozen=True)
class Objective:
    """A number to be made small or large. NaN or infinity says that the architecture failed; the search goes on.

    key: says what is measured, of which weights, on which data. Studies of one storage share the values of a key.
    fidelities: shares of a full evaluation, ascending to 1, at which the function is called one after the other, with
        the fidelity as its second argument. A net that is beaten for certain by what is known (`race`) is given up on
        the way; its value is then what is expected of it.
    repeats: of a noisy function, which is called so often at most; the value is the mean. Fewer, where that tells a net
        from the best already.
    """

    function: Metric
    direction: Direction
    batched: bool = False
    key: str | None = None
    fidelities: tuple[float, ...] = (1.0,)
    repeats: int = 1

    def __post_init__(self) -> None:
        steps = list(self.fidelities)
        if sorted({*steps}) != steps or not steps or steps[0] <= 0 or steps[-1] != 1:
            raise UserError(f"fidelities {steps} cannot be; ascending shares up to 1 are right, as in (0.25, 0.5, 1)")
        if self.repeats < 1 or (self.repeats > 1 and (len(steps) > 1 or self.key is not None)):
            raise UserError(
                f"repeats={self.repeats} cannot be; at least 1 is right, and more than 1 for an objective that has "
                "neither fidelities nor a key"
            )

    @property
    def rungs(self) -> tuple[float, ...]:
        """The shares of a full evaluation, step by step: the fidelities, or the share of the repeats."""
        return self.fidelities if self.repeats == 1 else tuple((k + 1) / self.repeats for k in range(self.repeats))

    def settings(self, rung: int) -> tuple[float, ...]:
        """What the function is called with at this rung, beside the architectures."""
        return self.fidelities[rung : rung + 1] if len(self.fidelities) > 1 else ()

    def after(self, rung: int, before: float, new: float) -> float:
        """The value at a rung, from that at the rung before and what the function gives."""
        return new if self.repeats == 1 or rung == 0 else before + (new - before) / (rung + 1)

    @property
    def sign(self) -> int:
        """What turns the number into a loss."""
        return 1 if self.direction == "minimize" else -1


def minimize(
    function: Metric,
    *,
    batched: bool = False,
    key: str | None = None,
    fidelities: Sequence[float] = (1.0,),
    repeats: int = 1,
) -> Objective:
    """Smaller is better. `batched`: the function takes a list of architectures and returns as many numbers.

    key, fidelities, repeats: see `Objective`.
    """
    return Objective(function, "minimize", batched, key, tuple(fidelities), repeats)


def maximize(
    function: Metric,
    *,
    batched: bool = False,
    key: str | None = None,
    fidelities: Sequence[float] = (1.0,),
    repeats: int = 1,
) -> Objective:
    """Larger is better. `batched`: the function takes a list of architectures and returns as many numbers.

    key, fidelities, repeats: see `Objective`.
    """
    return Objective(function, "maximize", batched, key, tuple(fidelities), repeats)


@dataclass(frozen=True)
class Constraint:
    """Bounds, inclusive, on the objective of that name; or on `function`, which is then evaluated beside it."""

    name: str
    upper: float | None = None
    lower: float | None = None
    function: Metric | None = None
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
            return Objective(function, direction)
    raise UserError(
        f"objective {name!r} states no direction; write minimize(f), maximize(f) or the pair (f, 'minimize'|'maximize')"
    )


def as_objectives(given: Mapping[str, Any]) -> dict[str, Objective]:
    """The objectives by name, at least one."""
    if not given:
        raise UserError("a search needs at least one objective, as {'latency_ms': minimize(f)}")
    return {name: as_objective(name, objective) for name, objective in given.items()}
