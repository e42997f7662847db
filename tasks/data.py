"""Splits: in memory, map-style or a stream; each gives batches of (inputs, targets), which are pytrees of tensors."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import torch
from torch import Generator, Tensor
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.data import DataLoader, IterableDataset, default_collate

from ..errors import UserError
from .batches import Selection

Batch = tuple[Any, Any]
"""Inputs, as `search_space.inputs.call` takes them (a tensor, a tuple or a mapping), and targets."""
Augment = Callable[[Any, Generator], Any]
"""Raw samples (N, ...) and a generator to changed samples of the same shape."""
_SHUFFLE, _AUGMENT, _SUBSET, _STREAM = range(4)  # one random stream for each use of a seed


class Data(Protocol):
    """One split of a task."""

    @property
    def size(self) -> int | None:
        """Samples; None: only a walk over a stream would tell."""

    def batches(self, batch_size: int) -> Iterator[Batch]:
        """Every sample once, in order; the last batch may be smaller."""

    def training_batch(self, step: int, batch_size: int, seed: int, augment: Augment | None) -> Batch:
        """The batch of training step `step` (from 0): a function of the arguments alone."""

    def first(self, count: int) -> "Data":
        """`count` samples of the split: of one that is in memory the first of a fixed shuffle."""


def as_float(raw: Any) -> Any:
    """What a split without normalisation does with its samples: bytes become floats; tokens and several inputs stay."""
    return raw.float() if isinstance(raw, Tensor) and raw.dtype not in (torch.int32, torch.int64) else raw


@dataclass(frozen=True, eq=False)
class Split:
    """Samples in memory: `raw` (N, ...) as stored (bytes for images: a quarter of the memory) and their `targets`.

    Either may be a tensor or a tuple or mapping of tensors whose first dimension is N. `prepare` makes network inputs
    of raw samples; it is the same function for the three splits of a task.

    >>> nas.Split(torch.randn(100, 8), torch.randint(3, (100,))).inputs.shape
    torch.Size([100, 8])
    """

    raw: Any
    targets: Any
    prepare: Callable[[Any], Any] = as_float

    def __post_init__(self) -> None:
        if len({len(t) for t in tree_leaves((self.raw, self.targets))}) != 1:
            sizes = [len(t) for t in tree_leaves((self.raw, self.targets))]
            raise UserError(f"the tensors of a split must have one first dimension, the samples, got {sizes}")

    def __len__(self) -> int:
        return len(tree_leaves(self.targets)[0])

    @property
    def size(self) -> int:
        return len(self)

    @property
    def inputs(self) -> Any:
        """All inputs at once, float32, made anew at each call; walk over `batches` where the split is large."""
        return self.prepare(self.raw)

    def batches(self, batch_size: int) -> Iterator[Batch]:
        for start in range(0, len(self), batch_size):
            part = self.take(slice(start, start + batch_size))
            yield self.prepare(part.raw), part.targets

    def training_batch(self, step: int, batch_size: int, seed: int, augment: Augment | None) -> Batch:
        part = self.take(drawn(len(self), step, batch_size, seed))
        raw = part.raw if augment is None else augment(part.raw, generator_of(seed, _AUGMENT, step))
        return self.prepare(raw), part.targets

    def first(self, count: int) -> "Split":
        return self.take(_subset(len(self), count))

    def take(self, indices: Any) -> "Split":
        """The samples at `indices` (an integer or boolean tensor, or a slice)."""
        raw, targets = tree_map(lambda t: t[indices], (self.raw, self.targets))
        return replace(self, raw=raw, targets=targets)


@dataclass(frozen=True, eq=False)
class Rows:
    """A map-style dataset, whose samples may be made or read from disk when they are asked for.

    workers: processes that prepare training batches ahead, as of a DataLoader.
    """

    dataset: Any
    select: Selection
    collate: Callable[[list[Any]], Any] = default_collate
    workers: int = 0
    _cursor: "Cursor" = field(default_factory=lambda: Cursor(), repr=False)

    def __len__(self) -> int:
        return len(self.dataset)

    @property
    def size(self) -> int:
        return len(self)

    def batches(self, batch_size: int) -> Iterator[Batch]:
        order = (list(range(i, min(i + batch_size, len(self)))) for i in range(0, len(self), batch_size))
        return (self.select(batch) for batch in _with_own_randomness(self._loaded(order), 0, 0))

    def training_batch(self, step: int, batch_size: int, seed: int, augment: Augment | None) -> Batch:
        if self.workers:
            batch = self._cursor.at(step, (batch_size, seed), lambda: self._loaded(self._order(step, batch_size, seed)))
        else:
            with _seeded(seed, step):
                batch = self.collate([self.dataset[i] for i in drawn(len(self), step, batch_size, seed).tolist()])
        return _augmented(self.select(batch), augment, seed, step)

    def first(self, count: int) -> "Rows":
        chosen = torch.utils.data.Subset(self.dataset, _subset(len(self), count).tolist())
        return replace(self, dataset=chosen, _cursor=Cursor())

    def _order(self, step: int, batch_size: int, seed: int) -> Iterator[list[int]]:
        while True:
            yield drawn(len(self), step, batch_size, seed).tolist()
            step += 1

    def _loaded(self, order: Iterable[list[int]]) -> Iterator[Any]:
        settings: Any = {"collate_fn": self.collate, "num_workers": self.workers}
        return iter(DataLoader(self.dataset, batch_sampler=_Once(order), **settings))


class _Once(torch.utils.data.Sampler[list[int]]):
    """The batches of indices of an iterator, as a sampler."""

    def __init__(self, order: Iterable[list[int]]) -> None:
        self.order = order

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.order)


@dataclass(frozen=True, eq=False)
class Stream:
    """Batches that can only be walked over: of an iterable dataset, or a DataLoader whose own order matters.

    loader: its batches are taken as they come, whatever batch size is asked for, if `own_batches`; an iterable dataset
        is batched anew. A training begins it anew at the end of each epoch; one that resumes walks to its step.
    """

    loader: DataLoader[Any]
    select: Selection
    own_batches: bool = False
    most: int | None = None
    _cursor: "Cursor" = field(default_factory=lambda: Cursor(), repr=False)

    @property
    def size(self) -> int | None:
        return None

    def batches(self, batch_size: int) -> Iterator[Batch]:
        return (self.select(batch) for batch in self._epoch(0, 0, batch_size, drop_last=False))

    def training_batch(self, step: int, batch_size: int, seed: int, augment: Augment | None) -> Batch:
        batch = self._cursor.at(step, (batch_size, seed), lambda: self._from(step, batch_size, seed))
        return _augmented(self.select(batch), augment, seed, step)

    def first(self, count: int) -> "Stream":
        return replace(self, most=count, _cursor=Cursor())

    def _from(self, step: int, batch_size: int, seed: int) -> Iterator[Any]:
        """The endless sequence of training batches from `step` on."""
        passed, epoch = 0, 0
        while True:
            before = passed
            for batch in self._epoch(seed, epoch, batch_size, drop_last=True):
                passed += 1
                if passed > step:
                    yield batch
            if passed == before:
                raise UserError(f"the training data give no batch of {batch_size} samples; lower batch_size")
            epoch += 1

    def _epoch(self, seed: int, epoch: int, batch_size: int, *, drop_last: bool) -> Iterator[Any]:
        loader = self.loader
        if not self.own_batches:
            settings: Any = {"collate_fn": loader.collate_fn, "num_workers": loader.num_workers, "drop_last": drop_last}
            loader = DataLoader(loader.dataset, batch_size, **settings)
        given = 0
        for batch in _with_own_randomness(loader, seed, epoch):
            yield batch
            given += len(next(t for t in tree_leaves(batch) if isinstance(t, Tensor)))
            if self.most is not None and given >= self.most:
                return


class Cursor:
    """Random access to an endless sequence of batches; cheap where each step follows the one before."""

    def __init__(self) -> None:
        self._key: Any = None
        self._next = 0
        self._batches: Iterator[Any] = iter(())
        self._last: Any = None

    def __reduce__(self) -> tuple[type["Cursor"], tuple[()]]:
        return Cursor, ()  # a copy in another process begins anew

    def at(self, step: int, key: Any, begin: Callable[[], Iterator[Any]]) -> Any:
        """The batch of that step. begin: the batches from `step` on."""
        if (key, step) == (self._key, self._next - 1):
            return self._last
        if (key, step) != (self._key, self._next):
            self._batches, self._key = begin(), key
        self._last, self._next = next(self._batches), step + 1
        return self._last


def drawn(samples: int, step: int, batch_size: int, seed: int) -> Tensor:
    """Indices of the samples of a training step: each epoch is a permutation of its own, without its tail."""
    if not 1 <= batch_size <= samples:
        raise UserError(f"batch size {batch_size} must be between 1 and the {samples} training samples; set batch_size")
    epoch, place = divmod(step, samples // batch_size)
    return _permutation(samples, seed, epoch)[place * batch_size : (place + 1) * batch_size]


def generator_of(seed: int, stream: int, index: int) -> Generator:
    state = np.random.SeedSequence((seed, stream, index)).generate_state(1)
    return Generator().manual_seed(int(state[0]))


@lru_cache(maxsize=4)
def _permutation(samples: int, seed: int, epoch: int) -> Tensor:
    return torch.randperm(samples, generator=generator_of(seed, _SHUFFLE, epoch))


def _subset(samples: int, count: int) -> Tensor:
    return torch.randperm(samples, generator=generator_of(0, _SUBSET, 0))[:count]


def _augmented(batch: Batch, augment: Augment | None, seed: int, step: int) -> Batch:
    inputs, targets = batch
    return (inputs if augment is None else augment(inputs, generator_of(seed, _AUGMENT, step))), targets


class _seeded:
    """While this lasts, torch's global generator is that of (seed, step); afterwards it is what it was."""

    def __init__(self, seed: int, step: int) -> None:
        self.state = generator_of(seed, _STREAM, step).get_state()

    def __enter__(self) -> None:
        self.before = torch.get_rng_state()
        torch.set_rng_state(self.state)

    def __exit__(self, *_: object) -> None:
        self.state = torch.get_rng_state()
        torch.set_rng_state(self.before)


def _with_own_randomness(loader: Iterable[Any], seed: int, epoch: int) -> Iterator[Any]:
    """The batches of a loader that draws from torch's global generator, as it gives them from a seed of its own."""
    state = _seeded(seed, epoch)
    with state:
        batches = iter(loader)
    while True:
        with state:
            try:
                batch = next(batches)
            except StopIteration:
                return
        yield batch


def is_stream(dataset: Any) -> bool:
    return isinstance(dataset, IterableDataset)
