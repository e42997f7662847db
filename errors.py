"""What a user can get wrong, said in one sentence."""

from collections.abc import Iterable
from difflib import SequenceMatcher


class UserError(ValueError):
    """Input that cannot be used. The message says what is wrong and what would be right; the command exits with 2."""


class UncalibratedWarning(UserWarning):
    """A net computes with running statistics that were not measured for it."""


class Infeasible(Exception):
    """No architecture of the space can meet the constraints. The command exits with 3."""


def nearest(name: str, valid: Iterable[str]) -> list[str]:
    """The valid names, those most like `name` first."""
    return sorted(valid, key=lambda v: (-SequenceMatcher(None, name.lower(), v.lower()).ratio(), v))


def unknown(kind: str, name: str, valid: Iterable[str]) -> UserError:
    """The error for a name that does not exist: the nearest match first, then the others."""
    return UserError(f"unknown {kind} {name!r}; valid: {', '.join(nearest(name, valid))}")


def check_least(least: int, **given: int) -> None:
    """Error: one of the named numbers is smaller than `least`."""
    for name, value in given.items():
        if not value >= least:
            raise UserError(f"{name} must be at least {least}, got {value}")
