"""What cannot be seen from shapes, checked: is every small net really a sub-network of the large one?"""

from collections.abc import Mapping
from dataclasses import dataclass

from .axes import Axis, axes_of
from .inputs import Inputs
from .layout import DimRule
from .nesting.judge import Fault, judge, prepare
from .nesting.pairs import Step, steps
from .nesting.propose import propose, written
from .paths import kind_of
from .probe import Probed

MOST_NAMED = 4


@dataclass(frozen=True)
class Finding:
    """A doubt about weight sharing: the gene, and one sentence that says what was seen and what to do.

    checked: whether the nets were compared; if not, the message says why.
    parameter: where it shows, if one could be named. layouts: rules for `SearchSpace(..., layouts=...)` that fix it,
    tried on the nets; empty where none of those tried does.
    """

    gene: str
    message: str
    parameter: str | None = None
    layouts: Mapping[str, Mapping[int, DimRule]] | None = None
    checked: bool = True


def check(space: Probed, example: Inputs | None = None, seed: int = 0) -> list[Finding]:
    """Doubts about the nesting of `space`; an empty list means that every gene passed.

    example: an input of the nets (a tensor, a tuple of arguments or a mapping of keywords); tokens and floats are
    drawn anew. seed: of them and of the weights.
    Every gene is set to its top and below it, and the small net must compute what the large one does whose other
    parameters are zero (`nesting.mask`), in random weights, without what legitimately depends on the width.
    Where that cannot decide, the units of the axis must be exchangeable. Without an example only the shapes are looked
    at: some tensor must consume every axis. Error: an example that the nets do not take.
    """
    if example is None:
        return [Finding(axis.gene, _what(axis)) for axis in axes_of(space) if _unused(space, axis)]
    ready = prepare(space, example, seed)
    results: dict[tuple[str, str], Finding] = {}
    for step in steps(space):
        result = judge(step, ready)
        if result is not None:
            finding = _unchecked(step, result) if isinstance(result, str) else _finding(step, result)
            where = written(finding.layouts or {}) or kind_of(finding.parameter or "")
            results.setdefault((kind_of(finding.gene), where), finding)
    return list(results.values())


def _unused(space: Probed, axis: Axis) -> bool:
    """Whether matrices make the axis and none consumes it (a scale does neither)."""
    layouts = space.probe(axis.architecture).layouts
    return all(m.dim == 0 for m in axis.members) and any(len(layouts[m.parameter]) > 1 for m in axis.members)


def _what(axis: Axis) -> str:
    names = list(dict.fromkeys(m.parameter for m in axis.members))
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return (
        f"gene {axis.gene!r} moves {', '.join(names[:MOST_NAMED])}{more} from {axis.size} to {axis.small}, "
        f"but no tensor consumes {axis.size} inputs; declare the layout of a fused projection"
    )


def _finding(step: Step, fault: Fault) -> Finding:
    rules = propose(fault)
    message = f"{_between(step)}: {_sentence(fault)}{_advice(fault, rules)}"
    return Finding(step.gene.name, message, fault.parameter, rules)


def _unchecked(step: Step, reason: str) -> Finding:
    return Finding(step.gene.name, f"{_between(step)}: could not be checked, for {reason}", checked=False)


def _between(step: Step) -> str:
    large, small = step.values
    return f"gene {step.gene.name!r}, {large!r} against {small!r}"


def _sentence(fault: Fault) -> str:
    name = fault.parameter
    if fault.what == "renamed":
        return (
            f"parameter {name} exists in the small net only, so names move with the gene, and layers of one name may "
            "play different parts; give every layer a name that does not depend on the gene"
        )
    if fault.what == "regrouped":
        return (
            "both nets have the same parameters but split the units of a layer otherwise (as heads do at a fixed "
            "width); weights are shared, yet the small net is not a part of the large one"
        )
    where = f", first at {name}" if name else ""
    far = "in shape" if fault.error == float("inf") else f"by {fault.error:.1e}"
    return (
        "the small net is not a sub-network of the large one: with all its other parameters at zero the large net's "
        f"outputs differ {far}{where}"
    )


def _advice(fault: Fault, rules: Mapping[str, Mapping[int, DimRule]] | None) -> str:
    if rules:
        return f"; layouts={written(rules)} fixes it"
    if fault.what == "moved":
        return "; its units are not one axis: declare a layout, or let the gene not move them"
    return "; layers behind those that it lacks play another part" if fault.what == "absent" else ""
