"""A task: three fixed splits, how to draw a training batch, a loss and a metric.

Letters: N samples, C channels, H height, W width, K classes.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from ..errors import UserError
from .metrics import Better, inferred

Augment = Callable[[Tensor, Generator], Tensor]
"""Raw samples (N, ...) and a generator to changed samples of the same shape."""

_SHUFFLE, _AUGMENT, _SUBSET = range(3)  # one random stream for each use of a seed


Loss = Callable[..., Tensor]
"""Outputs and targets to a scalar, as `F.mse_loss`; a training with label smoothing gives it as a keyword."""


def cross_entropy(outputs: Tensor, targets: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
    """Mean cross-entropy in nats."""
    return F.cross_entropy(outputs, targets, label_smoothing=label_smoothing)


def accuracy(outputs: Tensor, targets: Tensor) -> float:
    """Share of right answers, 0 to 1."""
    return (outputs.argmax(-1) == targets).float().mean().item()


def as_float(raw: Tensor) -> Tensor:
    """What a split without normalisation does with its samples: bytes become floats, tokens stay integers."""
    return raw if raw.dtype in (torch.int32, torch.int64) else raw.float()


@dataclass(frozen=True, eq=False)
class Split:
    """Samples `raw` (N, ...) as stored (bytes for images: a quarter of the memory) and their `targets` (N,).

    `prepare` makes network inputs of raw samples; it is the same function for the three splits of a task.
    """

    raw: Tensor
    targets: Tensor
    prepare: Callable[[Tensor], Tensor] = as_float

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def inputs(self) -> Tensor:
        """All inputs at once, float32, made anew at each call; walk over `batches` where the split is large."""
        return self.prepare(self.raw)

    def batches(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """(inputs, targets) of every sample once, in order; the last batch may be smaller."""
        for raw, targets in zip(torch.split(self.raw, batch_size), torch.split(self.targets, batch_size), strict=True):
            yield self.prepare(raw), targets

    def part(self, start: int, stop: int) -> "Split":
        """The samples from `start` to before `stop`; a view."""
        return replace(self, raw=self.raw[start:stop], targets=self.targets[start:stop])

    def take(self, indices: Tensor) -> "Split":
        """The samples at `indices` (an integer or boolean tensor)."""
        return replace(self, raw=self.raw[indices], targets=self.targets[indices])


@dataclass(frozen=True, eq=False, kw_only=True)
class Task:
    """Data, loss and metric. The search sees `validation` only; `test` is for one statement at the end.

    `space` names the default space preset, `source` says where the data come from, `preprocessing` how inputs are made
    of raw samples. `mean` and `std` (one value a channel, in the units of the raw samples) are the training split's.
    `better`: whether the metric is to be made large ("max") or small ("min"); None: what its name says.
    """

    name: str
    labels: tuple[str, ...]
    train: Split
    validation: Split
    test: Split
    space: str
    source: str
    preprocessing: str
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    augment: Augment | None = None
    loss: Loss = cross_entropy
    metric: Callable[[Tensor, Tensor], float] = accuracy
    metric_name: str = "accuracy"
    better: Better | None = None

    def __post_init__(self) -> None:
        if self.better not in (None, "max", "min"):
            raise UserError(f"better={self.better!r} of task {self.name!r} cannot be; 'max' and 'min' are right")

    @property
    def direction(self) -> Better:
        """Whether the metric is to be made large or small: as stated, or as its name says (`metrics.inferred`)."""
        return self.better or inferred(self.metric_name, self.metric)

    @property
    def classes(self) -> int:
        """K."""
        return len(self.labels)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input, without the batch dimension: (C, H, W) for images."""
        return tuple(self.train.raw.shape[1:])

    @property
    def example(self) -> Tensor:
        """A batch of one input, (1, *input_shape): zeros, which is the mean input; of tokens the first sample."""
        first = self.train.prepare(self.train.raw[:1])
        return torch.zeros_like(first) if first.is_floating_point() else first

    def steps_per_epoch(self, batch_size: int) -> int:
        """Whole batches in the training split; the tail of an epoch is dropped."""
        if not 1 <= batch_size <= len(self.train):
            raise UserError(
                f"batch size {batch_size} must be between 1 and the {len(self.train)} training samples; set batch_size"
            )
        return len(self.train) // batch_size

    def batch(self, step: int, batch_size: int, seed: int, augment: bool = True) -> tuple[Tensor, Tensor]:
        """Inputs and targets of training step `step` (from 0).

        A pure function of its arguments: a training that resumes at a step sees the batches that an undisturbed one
        sees, and no random state has to be stored.
        """
        epoch, place = divmod(step, self.steps_per_epoch(batch_size))
        chosen = _permutation(len(self.train), seed, epoch)[place * batch_size : (place + 1) * batch_size]
        raw = self.train.raw[chosen]
        if augment and self.augment is not None:
            raw = self.augment(raw, _generator(seed, _AUGMENT, step))
        return self.train.prepare(raw), self.train.targets[chosen]

    def subset(self, train: int | None = None, validation: int | None = None, test: int | None = None) -> "Task":
        """The task with fewer samples: the first of a fixed shuffle, so that a smaller subset lies in a larger one."""
        return replace(
            self,
            train=_first(self.train, train),
            validation=_first(self.validation, validation),
            test=_first(self.test, test),
        )


def _generator(seed: int, stream: int, index: int) -> Generator:
    state = np.random.SeedSequence((seed, stream, index)).generate_state(1)
    return Generator().manual_seed(int(state[0]))


@lru_cache(maxsize=4)
def _permutation(n: int, seed: int, epoch: int) -> Tensor:
    return torch.randperm(n, generator=_generator(seed, _SHUFFLE, epoch))


def _first(split: Split, count: int | None) -> Split:
    if count is None:
        return split
    return split.take(torch.randperm(len(split), generator=_generator(0, _SUBSET, 0))[:count])
