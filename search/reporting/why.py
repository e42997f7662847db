"""Why this net: three sentences, made of numbers that the search knows."""

from collections.abc import Mapping, Sequence

from ...search_space.architecture import Architecture
from ...search_space.quantization import policy_genes
from ...values import LATENCY
from ..costs import metric_of
from ..evaluation import Evaluation
from ..pipeline import Choice
from .glyphs import shown

MOST_NAMED = 4
BOUND = "latency_bound_ms"


def why(answer: Choice) -> list[str]:
    """What the net is on the front and under the budget, what bounded it, and what differs in those beside it."""
    return [_place(answer), f"Bounded by {answer.bounded_by}.", _beside(answer)]


def _place(answer: Choice) -> str:
    metric, study = answer.metric, answer.study
    kept = [e for e in study.evaluations if e.feasible and e.architecture.id not in answer.fallen]
    above, more = sum(_is_better(answer, e) for e in kept), "more" if metric.better == "max" else "less"
    words = f"{metric.text(answer.validation)} {metric.name} on validation"
    if above:
        result = f"{words}: {above} of {len(kept)} evaluated nets that keep every limit have {more}"
    else:
        result = f"{words}: none of {len(kept)} evaluated nets that keep every limit has {more}"
    ids = [a.id for a in answer.front_architectures]
    if answer.architecture.id in ids:
        result += f"; it is net {ids.index(answer.architecture.id) + 1} of {len(ids)} on the front"
    return f"{result}{_use(answer)}."


def _use(answer: Choice) -> str:
    """How much of the latency budget it takes, in the number that the budget bounds."""
    if answer.bound_ms is None:
        return ""
    evaluation = next((e for e in answer.study.evaluations if e.architecture == answer.architecture), None)
    bounded = answer.latency.value
    if answer.latency.source != "measured" and evaluation is not None:
        bounded = evaluation.metrics.get(BOUND, bounded)
    return f", and takes {LATENCY.text(bounded)} of the {LATENCY.text(answer.bound_ms)} that the budget allows"


def _beside(answer: Choice) -> str:
    """What the front shares, and what differs in the next faster and the next better net."""
    parts, on_front = [_shared(answer)], answer.study.front_evaluations()
    for words, net in (("next faster", _faster(answer)), ("next better", _better(answer))):
        if net is not None:
            beyond = "" if net.feasible else ", which exceeds a limit,"
            beyond = ", which was measured to be too slow," if net.architecture.id in answer.fallen else beyond
            numbers = ", ".join([answer.metric.text(net.metrics[answer.metric.name]), *_costs(answer, net)])
            place = "net of the front" if net in on_front else "evaluated net"
            parts.append(
                f"the {words} {place}, {net.architecture.id} ({numbers}){beyond} "
                f"{differences(answer.architecture, net.architecture)}"
            )
    text = "; ".join(p for p in parts if p)
    return f"{text[0].upper()}{text[1:]}." if text else "No other net is on the front."


def _costs(answer: Choice, net: Evaluation) -> list[str]:
    """What is minimised, of a net, with units."""
    latency, *others = [n for n in answer.study.problem.objectives if n != answer.metric.name]
    metrics = {n: metric for n in others if (metric := metric_of(n))}
    texts = [f"{m.title} {m.text(net.metrics[n])}{n.removeprefix(m.name)}" for n, m in metrics.items()]
    return [f"{net.metrics[latency]:.4g} ms", *texts]


def _shared(answer: Choice) -> str:
    front = answer.front_architectures
    if len(front) < 2:
        return ""
    open_genes = [n for n, g in answer.study.space.genes.items() if len(g.options) > 1 and n in answer.architecture]
    same = [n for n in open_genes if all(n in a and a[n] == answer.architecture[n] for a in front)]
    bits = policy_genes(same)
    named = [f"{n}={shown(answer.architecture[n])}" for n in same if n not in bits or len(bits) == 1]
    named += [f"the bits of {len(bits)} parts"] if len(bits) > 1 else []
    names = f" ({_listed(named)})" if named else ""
    return f"it shares {len(same)} of its {len(open_genes)} open genes with all {len(front)} nets of the front{names}"


def _faster(answer: Choice) -> Evaluation | None:
    """The slowest net of the front that is predicted to be faster; of equals, the most alike."""
    front = [e for e in answer.study.front_evaluations() if e.metrics["latency_ms"] < answer.predicted.value]
    return max(front, key=lambda e: (e.metrics["latency_ms"], -len(_unlike(answer, e))), default=None)


def _better(answer: Choice) -> Evaluation | None:
    """The fastest net that is better: of those that keep every limit, else of all; of equals, the most alike."""
    known = [e for e in answer.study.evaluations if not e.failed and _is_better(answer, e)]
    kept = [e for e in known if e.feasible and e.architecture.id not in answer.fallen]
    return min(kept or known, key=lambda e: (e.metrics["latency_ms"], len(_unlike(answer, e))), default=None)


def _is_better(answer: Choice, other: Evaluation) -> bool:
    metric = answer.metric
    return metric.sign * other.metrics[metric.name] < metric.sign * answer.validation


def _unlike(answer: Choice, other: Evaluation) -> list[str]:
    return unlike(answer.architecture, other.architecture)


def unlike(own: Architecture, other: Architecture) -> list[str]:
    """Genes that only one of the two has, or that differ."""
    names = [*own, *(n for n in other if n not in own)]
    return [n for n in names if n not in own or n not in other or own[n] != other[n]]


def differences(own: Architecture, other: Architecture) -> str:
    """`has width=64 (here 32) and no layers.2.mixer (here softmax)`; of policies in how many parts the bits differ."""
    names = unlike(own, other)
    of_policy = policy_genes(names)
    parts = [_difference(n, own, other) for n in names if n not in of_policy]
    changed = [n for n in of_policy if n in own and n in other]  # else the part itself is new, or left out
    if len(changed) == 1 or not (parts or changed):
        parts += [_difference(n, own, other) for n in changed or of_policy]
    elif changed:
        parts = [*_few(parts, MOST_NAMED - 1), f"other bits in {len(changed)} parts"]
    return f"has {_listed(parts)}"


def _difference(name: str, own: Mapping[str, object], other: Mapping[str, object]) -> str:
    there = f"{name}={shown(other[name])}" if name in other else f"no {name}"
    return f"{there} (here {shown(own[name]) if name in own else 'absent'})"


def _listed(items: Sequence[str]) -> str:
    """`a, b and c`; of many the first, and how many more there are."""
    items = _few(items, MOST_NAMED)
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)


def _few(items: Sequence[str], most: int) -> list[str]:
    """As they are; of many the first, and how many more there are."""
    return list(items) if len(items) <= most + 1 else [*items[:most], f"{len(items) - most} more"]
