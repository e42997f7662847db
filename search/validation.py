"""Quality of nets on growing parts of the validation split: the low fidelities of a search."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import ceil

import torch
from torch import Tensor

from ..search_space.architecture import Architecture
from ..search_space.quantization import policy_of
from ..supernet.evaluate import EVALUATION_BATCH, outputs_of, score
from ..supernet.shipped import as_shipped
from ..supernet.statistics import with_statistics
from ..supernet.store import Supernet
from ..tasks import Split, Task

SHARES = (0.125, 0.25, 0.5)
"""Of the split, before all of it."""


@dataclass
class Validation:
    """The task's metric of subnets on some samples of the validation split, drawn once, or on all of it.

    Outputs of a part are kept until the net goes on or others begin, so that no sample is computed twice.
    """

    supernet: Supernet
    task: Task
    _outputs: dict[Architecture, Tensor] = field(default_factory=dict, repr=False)

    @cached_property
    def data(self) -> Split:
        """The split in an order of chance: in a file the classes may stand one behind the other."""
        split = self.task.validation
        return split.take(torch.randperm(len(split), generator=torch.Generator().manual_seed(0)))

    @cached_property
    def fidelities(self) -> tuple[float, ...]:
        """Shares of the split in whole batches, so that a sum of parts is the whole to the bit.

        All at once for nets whose running statistics or scales would have to be found anew for each part.
        """
        space, samples = self.supernet.space, len(self.task.validation)
        largest = space.skeleton(space.largest)
        if with_statistics(largest) or policy_of(largest):
            return (1.0,)
        batches = -(-samples // EVALUATION_BATCH)
        parts = {min(samples, EVALUATION_BATCH * ceil(share * batches)) for share in SHARES}
        return tuple(sorted({*(part / samples for part in parts), 1.0}))

    def __call__(self, architectures: Sequence[Architecture], fidelity: float = 1.0) -> Iterator[float]:
        """One number for each, as soon as it is known."""
        stop = round(fidelity * len(self.data))
        begun = {len(self._outputs.get(a, ())) for a in architectures}
        start = begun.pop() if len(begun) == 1 else 0
        before = self._outputs if start else {}
        self._outputs = {}
        part = self.data.part(start, stop)
        for architecture in architectures:
            outputs, _ = outputs_of(as_shipped(self.supernet, self.task, architecture).eval(), part)
            whole = torch.cat([before.pop(architecture), outputs]) if start else outputs
            if stop < len(self.data):
                self._outputs[architecture] = whole
            yield score(self.task.metric, whole, self.data.targets[:stop])
