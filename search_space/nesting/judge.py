"""The judgement of one pair of nets."""

from dataclasses import dataclass, replace
from typing import Any

import torch

from ...errors import UserError
from ..inputs import Inputs, map_tensors, random_like
from ..paths import kind_of, numbers_in
from ..probe import Probed
from .mask import Pair, mask_error
from .nets import Nets, Run, difference, random_values, run, with_shared_constants
from .pairs import Step
from .permute import is_symmetric
from .regroup import regrouped

ATTEMPTS = (0, 1)


@dataclass(frozen=True)
class Fault:
    """What is wrong with a pair. parameter: where it shows; error: how far the outputs differ, 0 where none was."""

    pair: Pair
    what: str
    parameter: str | None = None
    error: float = 0.0


@dataclass(frozen=True)
class Ready:
    """Nets in a number format in which they run, inputs that they take, and the seed of their random weights."""

    nets: Nets
    inputs: Inputs
    example: Inputs
    seed: int


def judge(step: Step, ready: Ready) -> Fault | str | None:
    """The fault of a step; or the reason why it could not be checked; or None: the small net is a sub-network."""
    if not step.nested or (step.adds and not step.gene.nested):
        return None  # the supernet refuses the one; the other are alternatives, which hold parameters of their own
    reason = ""
    for attempt in ATTEMPTS:
        for positive in (False, True):
            pair = make_pair(step, ready, attempt, positive)
            if pair.added:
                return _renamed(pair, step)
            small = run(pair.small, pair.small_values(), pair.inputs)
            if small.failure:  # tokens drawn for the large net may be too many for the small one
                pair = replace(pair, inputs=ready.example)
                small = run(pair.small, pair.small_values(), pair.inputs)
            if not small.unreadable and any(bool(t.ne(0).any()) for t in small.outputs):
                return _judged(pair, step, small)
            reason = _reason(small)
    return reason


def _reason(seen: Run) -> str:
    if seen.failure:
        return f"the small net fails with {seen.failure}"
    if not seen.outputs:
        return "no output is real-valued"
    return "some outputs are not numbers with random weights" if seen.unreadable else "all outputs are zero"


def make_pair(step: Step, ready: Ready, attempt: int, positive: bool) -> Pair:
    """Both nets with random values."""
    nets = ready.nets
    small, large = with_shared_constants(nets[step.small.architecture], nets[step.large.architecture])
    values = nets.values(large.module, ready.seed, attempt, positive)
    return Pair(step.gene.name, large, small, values, ready.inputs, nets.dtype)


def _renamed(pair: Pair, step: Step) -> Fault | None:
    """Names that only the small net has: alternatives may have them, a smaller number may not.

    Unless the names say the number, as those of alternatives do (`convs.k3` in the place of `convs.k5`).
    """
    top, low = step.values
    says = all(top in numbers_in(n) for n in pair.absent) and all(low in numbers_in(n) for n in pair.added)
    alike = {*map(kind_of, pair.absent)} == {*map(kind_of, pair.added)}
    if not step.gene.nested or not pair.shared or (says and alike):
        return None
    return Fault(pair, "renamed", pair.added[0])


def _judged(pair: Pair, step: Step, small: Run) -> Fault | None:
    if not pair.moved and not pair.absent:
        return Fault(pair, "regrouped") if regrouped(pair, small) else None
    error, large = mask_error(pair, small)
    if error < pair.tolerance or (not step.gene.nested and not _one_program(pair, small, large)):
        return None
    if pair.moved and not pair.absent and is_symmetric(pair, step.gene, small):
        return None
    if not pair.moved and not _removable(pair):
        return None
    return Fault(pair, "moved" if pair.moved else "absent", first_break(pair, small, large), error)


def _one_program(pair: Pair, small: Run, large: Run) -> bool:
    """Whether two alternatives are sizes of one model: the same classes and the same operators."""
    classes = pair.large.classes
    same = all(classes.get(n) is c for n, c in pair.small.classes.items())
    return same and set(small.trace.names) == set(large.trace.names)


def _removable(pair: Pair) -> bool:
    """Whether what the small net lacks are whole modules: the layers inside of an LSTM are not seen one by one."""
    return all(any(n.startswith(m + ".") for m in pair.skipped) for n in pair.absent)


def first_break(pair: Pair, small: Run, large: Run) -> str | None:
    """The parameter of the first layer whose output differs in the two runs."""
    at = break_index(pair, small, large)
    if at is None:
        return None
    owner = small.calls[at][0]
    return next((n for n in pair.shared if n.rpartition(".")[0] == owner), None)


def break_index(pair: Pair, small: Run, large: Run) -> int | None:
    """The first call of a layer in the small net whose output differs from that of the large net."""
    theirs: dict[str, list[torch.Tensor]] = {}
    for name, output in large.calls:
        theirs.setdefault(name, []).append(output)
    for index, (name, output) in enumerate(small.calls):
        others = theirs.get(name)
        if others and output.is_floating_point() and difference(output, others.pop(0)) > pair.tolerance:
            return index
    return None


def prepare(space: Probed, example: Inputs, seed: int) -> Ready:
    """Random inputs of the form of the example if the nets take them, else the example itself.

    Error: the largest net takes neither.
    """
    architecture = space.probes[0].architecture
    for dtype in (torch.float64, torch.float32):
        nets = Nets(space, dtype)
        net = nets[architecture]
        for given in (_cast(example, dtype), example):
            drawn = random_like(given, torch.Generator().manual_seed(seed), net.module)
            for inputs in (drawn, given):
                failure = run(net, random_values(net.module, seed, 0, False), inputs).failure
                if not failure:
                    return Ready(nets, inputs, given, seed)
    raise UserError(f"the largest net does not take the example: {failure}")


def _cast(inputs: Inputs, dtype: torch.dtype) -> Any:
    return map_tensors(lambda x: x.to(dtype) if x.is_floating_point() else x, inputs)
