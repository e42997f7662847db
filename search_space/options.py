"""Fields of a space that is read from a file: option lists, and errors of one sentence."""

from collections.abc import Iterable
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, PositiveFloat, PositiveInt, ValidationError

from ..errors import UserError, unknown
from .architecture import GeneValue

T = TypeVar("T")


def _listed(value: object) -> object:
    """One value stands for a list of one."""
    return tuple(value) if isinstance(value, (list, tuple)) else (value,)


def _distinct(values: tuple[T, ...]) -> tuple[T, ...]:
    if not values or len(set(values)) < len(values):
        raise ValueError(f"needs one option or several different ones, not {list(values)}")
    return values


Integers = Annotated[tuple[PositiveInt, ...], BeforeValidator(_listed), AfterValidator(_distinct)]
Numbers = Annotated[tuple[PositiveFloat, ...], BeforeValidator(_listed), AfterValidator(_distinct)]
Names = Annotated[tuple[str, ...], BeforeValidator(_listed), AfterValidator(_distinct)]
Values = Annotated[tuple[GeneValue, ...], BeforeValidator(_listed), AfterValidator(_distinct)]
Count = Annotated[int, Field(ge=1)]


def user_error(error: ValidationError, fields: Iterable[str]) -> UserError:
    """The first thing that is wrong, as one sentence that names the field."""
    first: Any = error.errors()[0]
    path = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return unknown("field", path, fields)
    message = _lower(first["msg"].removeprefix("Value error, "))
    return UserError(f"field {path!r}: {message}" if path else message)


def _lower(message: str) -> str:
    return message[:1].lower() + message[1:]
