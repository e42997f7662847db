"""Fractions of sizes as users write them, checked without torch, which takes seconds."""

from ...errors import UserError


def fractions_in(name: str, text: str) -> tuple[float, ...]:
    """Numbers from 0 to 1: `0,0.5,1`. Error: something else."""
    try:
        fractions = tuple(map(float, text.split(",")))
    except ValueError:
        fractions = (-1.0,)
    if not all(0 <= each <= 1 for each in fractions):
        raise UserError(f"--{name} must be fractions from 0 to 1 with commas between, as in 0,0.5,1, got {text!r}")
    return fractions
