"""`nas.Task.of`: a task from what users have: tensors, datasets, DataLoaders, rows of a table, a loss and a metric."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler, SequentialSampler

from ..errors import UserError
from ..values import Better, Metric
from .batches import Parts, Selection
from .data import Data, Rows, Split, Stream, is_stream
from .metrics import MeanOf
from .outputs import Kind, Selected, cross_entropy, is_cross_entropy

if TYPE_CHECKING:
    from .task import Distillation, Loss, Task


def task_of(
    cls: "type[Task]",
    train: Any,
    validation: Any,
    test: Any = None,
    *,
    inputs: Parts = None,
    target: Parts = None,
    output: Selected = None,
    loss: "Loss | nn.Module | None" = None,
    metric: Any = None,
    better: Better | None = None,
    outputs: Kind | None = None,
    labels: Sequence[str] = (),
    vocabulary: int = 0,
    terms: Mapping[str, float] | None = None,
    distillation: "Distillation | None" = None,
    name: str = "task",
    space: str = "",
    batch_size: int | None = None,
) -> "Task":
    """A task from your own data, loss and metric.

    train, validation, test: each a DataLoader (its dataset, collate function, batch size and workers are used; one with
        a sampler of its own keeps its order), a map-style or iterable dataset, a list of rows (mappings or tuples), a
        mapping or tuple of tensors or arrays with one row a sample, or a `Split`. Without `test` no test number is
        stated.
    inputs: which part of a batch the net is called with: one name or place (its one argument), several names
        (keywords), several places (positional arguments), a mapping of keywords to parts, or a function of the batch.
        None: all but the target, as the batch has them.
    target: likewise what outputs are compared with. None: `labels`, `target` or `y` of a mapping, the last of a tuple.
    output: which part of what the net returns is its prediction: a key, attribute, place or function. None: the net
        returns one tensor, or the `logits` of a transformers model.
    loss: a function or module of (prediction, targets). None: the cross-entropy of classes, the mean squared error of
        other values, as the targets are.
    metric: a name ("accuracy", "mse", "mae"), a torchmetrics object (updated batch by batch), a function of all
        predictions and targets, or a pair (name, one of these). None: the loss.
    better: whether the metric is to be made large ("max") or small ("min"). None: the metric's own direction.
    outputs, labels, terms, distillation, space, batch_size: see `Task`.
    Errors: data in an unsupported form; parts that a batch does not have; a metric that is neither name nor function.

    >>> task = nas.Task.of(train=(x, y), validation=(xv, yv), loss=nn.MSELoss(), metric="mse")
    """
    select = Selection(inputs, target)
    splits = {key: _split(data, select, key) for key, data in (("train", train), ("validation", validation))}
    last = None if test is None else _split(test, select, "test")
    values = _are_values(_checked(splits["train"]))
    task = cls(
        name=name,
        space=space,
        train=splits["train"],
        validation=splits["validation"],
        test=last,
        loss=loss or (nn.MSELoss() if values else cross_entropy),
        metric=metric or Metric("loss"),
        better=better,
        output=output,
        outputs=outputs or ("values" if values and not is_cross_entropy(loss) else None),
        labels=tuple(labels),
        vocabulary=vocabulary,
        terms=terms or {},
        distillation=distillation,
        batch_size=batch_size or (train.batch_size if isinstance(train, DataLoader) else None),
    )
    return task if metric is not None else replace(task, score=lambda: MeanOf(task.loss_of))


def _split(data: Any, select: Selection, name: str) -> Data:
    """The split in the form that serves it. Error: none does."""
    if isinstance(data, Split | Rows | Stream):
        return data
    if isinstance(data, DataLoader):
        return _of_loader(data, select)
    if isinstance(data, Dataset) and is_stream(data):
        return Stream(DataLoader(data), select)
    if isinstance(data, Tensor | np.ndarray | Mapping) or (isinstance(data, tuple) and _columns(data)):
        columns = tree_map(torch.as_tensor, dict(data) if isinstance(data, Mapping) else data)
        if not all(isinstance(t, Tensor) for t in tree_leaves(columns)):
            raise UserError(f"{name}: the columns of a split must be tensors or arrays, one row a sample")
        inputs, targets = select(columns)
        return Split(inputs, targets)
    try:
        length, _ = len(data), data[0]
    except (TypeError, KeyError, IndexError) as error:
        raise UserError(
            f"{name} must be a DataLoader, a dataset, a list of rows, or tensors with one row a sample, got "
            f"{type(data).__name__} ({error or 'empty'})"
        ) from None
    if not length:
        raise UserError(f"{name} has no samples")
    return Rows(data, select)


def _columns(data: tuple[Any, ...]) -> bool:
    return all(isinstance(part, Tensor | np.ndarray | Mapping) for part in data)


def _of_loader(loader: "DataLoader[Any]", select: Selection) -> Data:
    """The loader's own dataset in this project's order, or the loader itself where its order is its own."""
    if is_stream(loader.dataset):
        return Stream(loader, select, own_batches=loader.batch_size is None)
    plain = isinstance(loader.sampler, SequentialSampler | RandomSampler) and type(loader.batch_sampler) is BatchSampler
    if not plain or (isinstance(loader.sampler, RandomSampler) and loader.sampler.replacement):
        return Stream(loader, select, own_batches=True)
    return Rows(loader.dataset, select, loader.collate_fn, loader.num_workers)


def _checked(data: Data) -> Any:
    """The targets of the first batch. Errors: an empty split; inputs or targets without a tensor."""
    for inputs, targets in data.batches(2):
        for part, what in ((inputs, "inputs"), (targets, "targets")):
            if not any(isinstance(t, Tensor) for t in tree_leaves(part)):
                raise UserError(f"a batch has no tensor among its {what}; say inputs= and target= by its parts")
        return targets
    raise UserError("train has no samples")


def _are_values(targets: Any) -> bool:
    leaves = [t for t in tree_leaves(targets) if isinstance(t, Tensor)]
    return all(t.is_floating_point() for t in leaves)
