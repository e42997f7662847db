"""What is known of a chosen net, as numbers and words."""

from typing import NamedTuple

from ...tasks import Data
from ...values import Estimate, Metric
from ..candidates import Candidates
from ..pipeline import Choice
from . import bits

UNKNOWN = "no runtime: datasheet only"


class Fact(NamedTuple):
    """value: a number with its unit, which the page shows large; empty: there is none. words: what follows."""

    value: str
    words: str = ""

    @property
    def text(self) -> str:
        return self.value + self.words


def facts_of(choice: Choice, candidates: Candidates) -> dict[str, Fact]:
    """By their labels, in the order of reading. candidates: on the first device."""
    task, metric, device, latency = candidates.task, choice.metric, candidates.device, choice.latency
    bits_of_parts = bits.in_words(choice.architecture)
    once = f"{_of(metric, task.test)} (looked at once, for this net)"
    words = {
        **({"quantization": bits_of_parts} if bits_of_parts else {}),
        "device": f"{device.name}: {device.title}, {device.unit}, {device.precision}, {device.runtime or UNKNOWN}",
        "limits": "; ".join(limit.text for limit in choice.asked) or "none",
        "bounded by": choice.bounded_by,
    }
    return {
        f"{metric.name} on validation": Fact(metric.text(choice.validation), _of(metric, task.validation)),
        f"{metric.name} on test": (
            Fact("", "none: the task has no test split")
            if choice.test is None
            else Fact(metric.text(choice.test), once)
        ),
        "latency": Fact(latency.metric.text(latency.value), f"{latency.spread}, {candidates.call_text}"),
        **{
            result.metric.title + name.removeprefix(result.metric.name): _fact(result, choice.limits.get(name))
            for name, result in choice.costs.items()
        },
        **{label: Fact("", text) for label, text in words.items()},
        "evaluated": Fact(str(len(choice.trials)), " nets"),
    }


def _of(metric: Metric, data: Data | None) -> str:
    """Of how many samples, where that is known."""
    if data is None or data.size is None:
        return ""
    return f" of {data.size}" if metric.style == "share" else f" on {data.size} samples"


def _fact(estimate: Estimate, most: float | None) -> Fact:
    allowed = "" if most is None else f", allowed {estimate.metric.text(most)}"
    return Fact(estimate.metric.text(estimate.value), estimate.spread + allowed)
