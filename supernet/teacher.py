"""The original that subnets learn from: the largest net as it was when the training began, which never moves."""

from typing import Any

import torch
from torch import nn

from ..search_space.inputs import arguments
from ..tasks import Task
from .store import Supernet


class Teacher:
    """A frozen copy of the largest net of a supernet, in evaluation mode."""

    def __init__(self, supernet: Supernet, task: Task) -> None:
        self.task = task
        self.net: nn.Module = supernet.extract(supernet.space.largest, task).requires_grad_(False)

    @torch.no_grad()
    def prediction(self, inputs: Any) -> Any:
        """Its prediction of a batch."""
        args, keywords = arguments(inputs)
        return self.task.prediction(self.net(*args, **keywords))
