"""Quality of subnets with the weights they inherit, batch by batch."""

from collections.abc import Callable, Mapping
from math import nan
from typing import Any

import torch
from torch import nn

from ..errors import UserError
from ..search_space.architecture import GeneValue
from ..search_space.inputs import call
from ..search_space.temporary import evaluating
from ..tasks import Data, Task
from ..tasks.outputs import Agreement, all_finite
from .shipped import as_shipped
from .statistics import placed
from .store import Supernet

Predict = Callable[[Any], Any]
"""Inputs of a batch, as a split gives them, to predictions."""


def evaluate(model: nn.Module, task: Task, split: str = "validation") -> float:
    """The task's metric of a plain module (an extracted net) on "train", "validation" or "test"; in evaluation mode.

    The metric is updated batch by batch, on the device of the module. NaN if a prediction is not finite: of those no
    metric is to be believed (an argmax answers class 0). Error: the task has no such split, or an empty one.

    >>> 0 <= nas.evaluate(supernet.extract(space.smallest), task, "test") <= 1
    True
    """
    with evaluating(model):
        return measured(predictor(model, task), task, split_of(task, split))


def evaluate_subnet(
    supernet: Supernet, task: Task, architecture: Mapping[str, GeneValue], split: str = "validation"
) -> float:
    """The task's metric of a subnet with inherited weights, and with its quantization policy if it has one.

    Running statistics are those that `supernet.extract(architecture, task)` measures. NaN if an output is not finite.

    >>> 0 <= nas.evaluate_subnet(supernet, task, space.smallest) <= 1
    True
    """
    return evaluate(as_shipped(supernet, task, architecture), task, split)


def predictor(model: nn.Module, task: Task) -> Predict:
    """Calls the module as the task's batches say, on its device, and picks the prediction of what it returns."""
    return lambda inputs: task.prediction(call(model, placed(inputs, model)))


@torch.inference_mode()
def measured(predict: Predict, task: Task, data: Data) -> float:
    """The task's metric of predictions over all batches of a split; NaN if one is not finite."""
    score, batches = task.score(), 0
    for inputs, targets in data.batches(task.evaluation_batch):
        prediction = predict(inputs)
        if not all_finite(prediction):
            return nan
        score.update(prediction, task.targets_for(prediction, targets))
        batches += 1
    if not batches:
        raise UserError(f"task {task.name!r} has an empty split; it needs samples to compute {task.metric.name}")
    return float(score.compute())


@torch.inference_mode()
def agreement(predict: Predict, reference: Predict, task: Task, data: Data) -> float:
    """How far predictions agree with those of a reference on the same samples (`Agreement`)."""
    score = Agreement()
    for inputs, targets in data.batches(task.evaluation_batch):
        ours, theirs = predict(inputs), reference(inputs)
        score.update(ours, theirs, task.class_axis(theirs, targets))
    return score.compute()


def split_of(task: Task, split: str) -> Data:
    """The split of that name. Error: the task has none."""
    data: Data | None = getattr(task, split)
    if data is None:
        raise UserError(f"task {task.name!r} has no {split} split; give one to the task, or use 'validation'")
    return data
