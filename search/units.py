"""What users write for limits: `5ms`, `60%`, `2M`, `50MiB`, `20mJ`."""

from collections.abc import Mapping, Sequence

from ..errors import UserError
from ..values import Limit, parse_limit
from .costs import COSTS


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
