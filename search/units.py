"""What users write for budgets: `5ms`, `60%`, `2M`, `50MiB`, `20mJ`."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from ..errors import UserError, nearest, quoted

MILLISECONDS: Mapping[str, float] = {"ms": 1.0, "us": 1e-3, "s": 1e3}
MILLIJOULES: Mapping[str, float] = {"mJ": 1.0, "uJ": 1e-3, "J": 1e3}
COUNTS: Mapping[str, float] = {"": 1.0, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
MEBIBYTES: Mapping[str, float] = {
    "B": 2**-20,
    "KiB": 2**-10,
    "MiB": 1.0,
    "GiB": 1024.0,
    "KB": 1e3 / 2**20,
    "MB": 1e6 / 2**20,
    "GB": 1e9 / 2**20,
}


MOST = 1e18
"""Of a number that a user writes: beyond, a unit would carry it out of what a float holds."""
T = TypeVar("T")


@dataclass(frozen=True)
class Budget:
    """A latency budget: milliseconds, or a share of the largest net's latency. `text` is what the user wrote."""

    text: str
    ms: float | None = None
    share: float | None = None


def parse_budget(text: str) -> Budget:
    """`5ms`, `800us`, `0.01s` or `60%`."""
    number, unit = _split(text, "budget", [*MILLISECONDS, "%"], "5ms or 60%")
    if unit == "%":
        if number > 100:
            raise UserError(f"budget {quoted(text)} is more than the largest net takes; at most 100% is right")
        return Budget(text, share=number / 100)
    return Budget(text, ms=number * MILLISECONDS[unit])


def for_each(targets: Sequence[str], texts: Sequence[str], parse: Callable[[str], T], option: str) -> list[T | None]:
    """What was written, for each target: one for all, or as many as there are targets, or none at all."""
    if len(texts) not in (0, 1, len(targets)):
        raise UserError(
            f"{option} is given {len(texts)} times for {len(targets)} targets; "
            f"give it once for all, or once for each --target"
        )
    found: list[T | None] = [parse(text) for text in texts] or [None]
    return found * len(targets) if len(found) == 1 else found


def parse_number(text: str, what: str, units: Mapping[str, float], example: str) -> float:
    """`2M`, `50MiB` or `20mJ`, as the units say."""
    number, unit = _split(text, what, units, example)
    return number * units[unit]


def _split(text: str, what: str, units: Mapping[str, float] | list[str], example: str) -> tuple[float, str]:
    match = re.fullmatch(r" *([0-9]+(?:\.[0-9]+)?|\.[0-9]+) *([A-Za-z%]*) *", text)
    by_case = {u.lower(): u for u in units}
    if match is None or match[2].lower() not in by_case:
        given = "" if match is None else match[2]
        named = ", ".join(u or "none" for u in (nearest(given, units) if given else units))
        raise UserError(
            f"{what} {quoted(text)} is not understood; write a number and a unit ({named}), as in {example}"
        )
    number = float(match[1])
    if not 0 < number < MOST:
        bound = "more than zero" if number < 1 else f"below {MOST:g}"
        raise UserError(f"{what} {quoted(text)} must be {bound}, as in {example}")
    return number, by_case[match[2].lower()]


def human(value: float, unit: str = "") -> str:
    """1234567 as 1.23 M."""
    for name, scale in reversed(list(COUNTS.items())):
        if value >= scale:
            return f"{value / scale:.3g} {name}{unit}".rstrip()
    return f"{value:.3g} {unit}".rstrip()
