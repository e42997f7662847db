"""Fields of a space that is read from a file: option lists, and errors of one sentence."""

from collections.abc import Iterable, Sequence
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError

from ..errors import UserError, quoted, unknown
from .architecture import GeneValue

T = TypeVar("T")


def _listed(value: object) -> object:
    """One value stands for a list of one."""
    return tuple(value) if isinstance(value, (list, tuple)) else (value,)


def _distinct(values: tuple[T, ...]) -> tuple[T, ...]:
    if not values or len(set(values)) < len(values):
        raise ValueError(f"needs one option or several different ones, not {quoted(list(values))}")
    return values


def no_flag(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("write a number, not true or false (YAML reads yes, no, on and off as such)")
    return value


MOST_WIDTH, MOST_HEADS, MOST_LAYERS, MOST_FACTOR = 2**17, 4096, 256, 1024
"""Channels, heads (and their size), layers and factors: some room above the largest nets that anybody has built."""
Size = Annotated[int, BeforeValidator(no_flag), Field(gt=0, le=MOST_WIDTH)]
HeadSize = Annotated[int, BeforeValidator(no_flag), Field(gt=0, le=MOST_HEADS)]
Factor = Annotated[float, BeforeValidator(no_flag), Field(gt=0, le=MOST_FACTOR, allow_inf_nan=False)]
Integers = Annotated[tuple[Size, ...], BeforeValidator(_listed), AfterValidator(_distinct)]
HeadSizes = Annotated[tuple[HeadSize, ...], BeforeValidator(_listed), AfterValidator(_distinct)]
Numbers = Annotated[tuple[Factor, ...], BeforeValidator(_listed), AfterValidator(_distinct)]
Names = Annotated[tuple[str, ...], BeforeValidator(_listed), AfterValidator(_distinct)]
Values = Annotated[tuple[GeneValue, ...], BeforeValidator(_listed), AfterValidator(_distinct)]
Layers = Annotated[int, BeforeValidator(no_flag), Field(ge=1, le=MOST_LAYERS)]


def check_gene(name: str, options: Sequence[GeneValue], usual: Sequence[GeneValue]) -> None:
    """Errors: options of another type than the usual ones; numbers below 1 (or theirs) or too large."""
    least = min([1, *(u for u in usual if isinstance(u, int | float))])
    for option in options:
        if {type(option)} - {type(u) for u in usual}:
            kind = " or ".join(sorted({type(u).__name__ for u in usual}))
            raise UserError(f"gene {name!r} takes options of type {kind} as {list(usual)}, not {quoted(option)}")
        if isinstance(option, int | float) and not least <= option <= MOST_WIDTH:
            raise UserError(f"gene {name!r} takes numbers from {least} to {MOST_WIDTH}, not {quoted(option)}")


def user_error(error: ValidationError, fields: Iterable[str]) -> UserError:
    """The first thing that is wrong, as one sentence that names the field."""
    first: Any = error.errors(include_url=False)[0]
    path = ".".join(str(part) for part in first["loc"])[:200]
    if first["type"] == "extra_forbidden":
        return unknown("field", path, fields)
    message = _lower(first["msg"].removeprefix("Value error, "))
    return UserError(f"field {path!r}: {message}" if path else message)


def _lower(message: str) -> str:
    return message[:1].lower() + message[1:]
