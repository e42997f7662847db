"""Contracts as lists of functions: each takes what is tested and raises AssertionError with a sentence."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Generic, TypeVar

Subject = TypeVar("Subject")
Checks = dict[str, Callable[[], None]]
"""By name, functions without arguments that raise AssertionError: for `pytest.mark.parametrize`."""


@dataclass(frozen=True)
class Suite(Generic[Subject]):
    """The checks of one kind of extension, in the order in which they were added."""

    functions: dict[str, tuple[Callable[[Subject], None], Callable[[Subject], bool]]] = field(default_factory=dict)

    def add(
        self, applies: Callable[[Subject], bool] = lambda _: True
    ) -> Callable[[Callable[[Subject], None]], Callable[[Subject], None]]:
        """Decorator. applies: the subjects that are held to it; the others are left alone."""

        def enter(function: Callable[[Subject], None]) -> Callable[[Subject], None]:
            self.functions[function.__name__] = function, applies
            return function

        return enter

    def of(self, subject: Subject) -> Checks:
        return {name: partial(run, subject) for name, (run, applies) in self.functions.items() if applies(subject)}


def run_all(checks: Checks) -> None:
    """Error: AssertionError that names the first check that fails."""
    for name, check in checks.items():
        try:
            check()
        except AssertionError as error:
            raise AssertionError(f"{name}: {error}") from error
