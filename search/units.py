"""What users write for limits: `5ms`, `60%`, `2M`, `50MiB`, `20mJ`."""

import re
from collections.abc import Mapping, Sequence

from ..errors import UserError, nearest, quoted
from ..values import COUNTS, Limit, Metric
from .costs import COSTS

UNITS: Mapping[str, Mapping[str, float]] = {
    "ms": {"ms": 1.0, "us": 1e-3, "s": 1e3},
    "mJ": {"mJ": 1.0, "uJ": 1e-3, "J": 1e3},
    "MiB": {
        "B": 2**-20,
        "KiB": 2**-10,
        "MiB": 1.0,
        "GiB": 1024.0,
        "KB": 1e3 / 2**20,
        "MB": 1e6 / 2**20,
        "GB": 1e9 / 2**20,
    },
    "": COUNTS,
}
"""What may be written of a metric, in terms of its unit."""
EXAMPLES = {"ms": "5ms", "mJ": "20mJ", "MiB": "50MiB", "": "2M"}
MOST = 1e18
"""Of a number that a user writes: beyond, a unit would carry it out of what a float holds."""


def parse_limit(metric: Metric, text: str, device: str = "", *, option: str = "") -> Limit:
    """`5ms`, or `60%` of what the largest net of the space has. Error: not a number and one of the units.

    option: of the command, to be named by an error.
    """
    units, example = UNITS[metric.unit], EXAMPLES[metric.unit]
    what = f"{option or metric.title} {quoted(text)}"
    match = re.fullmatch(r" *([0-9]+(?:\.[0-9]+)?|\.[0-9]+) *([A-Za-z%]*) *", text)
    by_case = {unit.lower(): unit for unit in (*units, "%")}
    if match is None or match[2].lower() not in by_case:
        given = "" if match is None else match[2]
        named = ", ".join(u or "none" for u in (nearest(given, by_case.values()) if given else by_case.values()))
        raise UserError(f"{what} is not understood; write a number and a unit ({named}), as in {example} or 60%")
    number, unit = float(match[1]), by_case[match[2].lower()]
    if not 0 < number < MOST:
        raise UserError(f"{what} must be {'more than zero' if number < 1 else f'below {MOST:g}'}, as in {example}")
    if unit == "%" and number > 100:
        raise UserError(f"{what} is more than the largest net has; write at most 100%")
    return Limit(metric, number * units.get(unit, 0.01), device, relative=unit == "%")


def parse_limits(targets: Sequence[str], written: Mapping[str, Sequence[str]]) -> list[Limit]:
    """Limits on the targets. written: texts by the name of the cost: one for all targets, or one for each.

    Errors: those of `parse_limit`; as many texts as there are no targets.
    """
    results = []
    for cost in COSTS.values():
        texts = written.get(cost.metric.name, ())
        if len(texts) not in (0, 1, len(targets)):
            raise UserError(
                f"{cost.option} is given {len(texts)} times for {len(targets)} targets; "
                f"give it once for all, or once for each --target"
            )
        devices = targets if len(texts) > 1 else [""]
        pairs = zip(texts, devices, strict=False)
        results += [parse_limit(cost.metric, text, device, option=cost.option) for text, device in pairs]
    return results
