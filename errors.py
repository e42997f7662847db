"""What a user can get wrong, in one sentence."""

from collections.abc import Iterable
from difflib import SequenceMatcher


class UserError(ValueError):
    """Input that cannot be used. The message says what is wrong and what would be right; the command exits with 2.

    >>> nas.load_device("jetson-orion")
    Traceback (most recent call last):
    nas.errors.UserError: unknown device 'jetson-orion'; valid: jetson-orin, ...
    """


class NotFinite(UserError):
    """Numbers in a net that are not finite, or would not be in the precision that they are to have."""


class UncalibratedWarning(UserWarning):
    """A net computes with running statistics that were not measured for it.

    >>> warnings.simplefilter("error", nas.UncalibratedWarning)  # a test wants to know
    """


class Infeasible(Exception):
    """No architecture of the space can meet the constraints. The command exits with 3.

    >>> str(nas.Infeasible("no net keeps the limit"))
    'no net keeps the limit'
    """


def nearest(name: str, valid: Iterable[str]) -> list[str]:
    """The valid names, those most like `name` first."""
    return sorted(valid, key=lambda v: (-SequenceMatcher(None, name.lower(), v.lower()).ratio(), v))


def quoted(text: object, most: int = 120) -> str:
    """`repr` for a message; the middle of a long one is left out."""
    whole = repr(text[: 2 * most] + text[-most:] if isinstance(text, str) and len(text) > 3 * most else text)
    return whole if len(whole) <= most else f"{whole[: most // 2]}...{whole[-most // 2 :]}"


def unknown(kind: str, name: str, valid: Iterable[str]) -> UserError:
    """The error for a name that does not exist: the nearest match first, then the others."""
    return UserError(f"unknown {kind} {quoted(name)}; valid: {', '.join(nearest(name[:200], valid))}")


def check_least(least: int, **given: int) -> None:
    """Error: one of the named numbers is smaller than `least`."""
    for name, value in given.items():
        if not value >= least:
            raise UserError(f"{name} must be at least {least}, got {value}")
